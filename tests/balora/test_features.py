from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from mofgap.balora import BaLoRAConfig, get_balora_model
from mofgap.balora.noise import NoiseNetwork
from tests.balora.test_wrapper import Net, X, made


def test_predicting_does_not_move_the_standardisation() -> None:
    model = made()
    model(X)
    network = model.noise_network
    assert isinstance(network, NoiseNetwork)
    before = network.feature_mean.clone()
    model.predict(X + 5)
    model.sample(X + 5, 2)
    assert torch.equal(network.feature_mean, before) and int(model.n_seen) == 6


def test_the_standardisation_adds_up_over_batches() -> None:
    network, x = NoiseNetwork(3, 1), torch.randn(20, 3) * 4 + 1
    x[:8, 0] = 2  # a feature may be constant at first
    seen = torch.tensor(0)
    for batch in (x[:1], x[1:8], x[8:]):
        network.update_scale(batch, seen)
        seen += len(batch)
    torch.testing.assert_close(network.feature_mean, x.mean(0))
    torch.testing.assert_close(network.feature_std, x.std(0, correction=0))


def test_features_by_module_by_function_and_pooled() -> None:
    model = made(features="layers.0", posterior="network")
    assert model.noise_network is not None
    assert model.noise_network.network[0].in_features == 8
    seen: list[Tensor] = []

    def own(x: Tensor) -> Tensor:
        seen.append(x)
        return x[:, :2]

    config = BaLoRAConfig(n_features=2)
    get_balora_model(Net(), config, features=own)(X)
    assert seen[0] is X
    with pytest.raises(ValueError, match="n_features"):
        get_balora_model(Net(), BaLoRAConfig(), features=own)
    with pytest.raises(ValueError, match="no module 'nowhere'"):
        made(features="nowhere")


@pytest.mark.parametrize("width", [8, 6])
def test_features_of_an_image_are_means_over_its_places(width: int) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    images = torch.randn(2, 3, 8, width, generator=torch.Generator().manual_seed(0))
    expected = net[:2](images).mean((2, 3)).detach()
    found = made(net, target_modules=["0", "2"])._frozen_features((images,), {}, None)
    torch.testing.assert_close(found, expected)


def test_a_function_that_reads_a_part_of_the_model_gets_the_frozen_one() -> None:
    net = Net()
    read: list[Tensor] = []

    def features(x: Tensor) -> Tensor:
        read.append(net.layers[0](x))
        return read[-1]

    frozen = net.layers[0](X)
    config = BaLoRAConfig(r=2, n_features=frozen.shape[1], initial_alpha=1.0)
    model = get_balora_model(net, config, features=features)
    with torch.no_grad():
        for layer in model.layers.values():
            layer.lora_B.normal_()
    model.train()
    for _ in range(2):  # the second finds the noise of the first
        model(X)
    model.eval().predict(X)
    for found in read:
        torch.testing.assert_close(found, frozen)


@pytest.mark.parametrize("bad", [X[:0], X * float("nan")])
def test_one_bad_batch_does_not_spoil_alpha(bad: Tensor) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    model, other = made(copy.deepcopy(net)), made(net)
    for each in (X, bad, X):
        model(each)
    for each in (X, X):
        other(each)
    assert model.n_seen == other.n_seen == 2 * len(X)
    torch.testing.assert_close(model.eval().predict(X), other.eval().predict(X))
