from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mofgap.balora import BaLoRAConfig, NoiseNetwork, load_noise_network
from mofgap.balora.adapter_files import NOISE_FILE
from mofgap.balora.features import FrozenFeatures


@pytest.mark.parametrize("initial_alpha", [1e-4, 1 / 9, 3.0])
def test_starts_near_the_given_alpha_and_differs_between_inputs(initial_alpha: float) -> None:
    network = NoiseNetwork(32, 200, initial_alpha=initial_alpha, initial_spread=0.1)
    log_alpha = network(torch.randn(300, 32)).log()
    assert log_alpha.exp().mean().item() == pytest.approx(initial_alpha, rel=0.1)
    assert 0.03 < log_alpha.std(0).mean().item() < 0.2


def test_every_parameter_gets_a_gradient_from_the_start() -> None:
    network = NoiseNetwork(8, 3)
    (network(torch.randn(16, 8)) * torch.randn(16, 3)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-6, name


def test_fit_scale_brings_out_what_differs() -> None:
    features = 5 * torch.randn(24) + 0.01 * torch.randn(50, 24)
    features[:, 3] = 1.0  # a feature that never changes
    network = NoiseNetwork(24, 4)
    before = network(features).log().std(0).mean()
    network.fit_scale(features)
    after = network(features).log().std(0).mean()
    assert after > 5 * before
    assert torch.isfinite(network(features)).all()


def test_float32_and_positive_under_autocast() -> None:
    network = NoiseNetwork(8, 3, initial_alpha=1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alpha = network(torch.randn(4, 8).bfloat16())
    assert alpha.dtype == torch.float32
    assert (alpha > 0).all()


def test_features_before_a_linear_layer_have_their_channels_last() -> None:
    """A layer that is as wide as an image is high."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.linear(x).mean((1, 2))
            return out

    net, x = Head(), torch.randn(2, 8, 5, 8)
    found = FrozenFeatures(net, BaLoRAConfig(target_modules=("linear",)))(net, (x,), {}, None)
    torch.testing.assert_close(found, x.mean((1, 2)))


def test_batches_do_not_change_a_standardisation_that_was_set(tmp_path: Path) -> None:
    features = 7 + 50 * torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    fitted, ignored, loaded = (NoiseNetwork(3, 2) for _ in range(3))
    fitted.fit_scale(features)
    ignored.ignore_features()
    save_file(fitted.state_dict(), tmp_path / NOISE_FILE)
    load_noise_network(loaded, tmp_path)
    for network in (fitted, ignored, loaded):
        before = network.feature_mean.clone(), network.feature_std.clone()
        n_seen = network.update_scale(features[:1] - 7, torch.tensor(0))
        torch.testing.assert_close((network.feature_mean, network.feature_std), before, rtol=0, atol=0)
        network.is_fixed = False  # as in a model that a checkpoint is loaded into, with the number
        network.update_scale(features[:1] - 7, n_seen)
        torch.testing.assert_close((network.feature_mean, network.feature_std), before, rtol=1e-5, atol=1e-5)
