from __future__ import annotations

import copy
import doctest
from collections.abc import Callable

import pytest
import torch
from torch import nn

import mofgap.balora
from mofgap.balora import BaLoRA, BaLoRAConfig, elbo_loss, gaussian_nll, get_balora_model, merge, unadapt

CONFIG = BaLoRAConfig(target_modules=("0", "2"), r=4, prior_rate=0.2, initial_alpha=0.01)


def make_net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))


def test_the_lines_of_the_docstring_learn_a_regression() -> None:
    x = torch.randn(64, 3)
    y = torch.sin(x[:, 0]) + 0.1 * torch.randn(64)
    net = make_net()
    before = (net(x).squeeze(-1) - y).abs().mean()
    scope: dict[str, object] = {"torch": torch, "net": net, "x": x, "y": y}
    test = doctest.DocTestParser().get_doctest(mofgap.balora.__doc__ or "", scope, "a dozen lines", None, 0)
    assert len([example for example in test.examples if "import" not in example.source]) <= 10
    outcome = doctest.DocTestRunner().run(test, clear_globs=False)
    assert outcome.failed == 0
    assert outcome.attempted >= 5
    mean, std = (test.globs[name].squeeze(-1) for name in ("mean", "std"))
    assert (mean - y).abs().mean() < 0.5 * before
    assert mean.shape == std.shape == (64,)
    assert (std > 0).all()


def test_parameter_groups_train_adapters_head_and_noise_network() -> None:
    model = BaLoRA(make_net(), BaLoRAConfig(target_modules=("0",)), n_features=3)
    model.model[2].requires_grad_(True)
    trained, noise = model.parameters_to_train(noise_lr=0.5)
    assert [tuple(p.shape) for p in trained["params"]] == [(8, 3), (16, 8), (1, 16), (1,)]
    assert noise["lr"] == 0.5
    assert model.noise_network is not None
    assert len(noise["params"]) == len(list(model.noise_network.parameters()))
    assert "lr" not in model.parameters_to_train()[1]


def test_learned_standard_deviations_have_the_learning_rate_of_the_noise() -> None:
    model = get_balora_model(make_net(), BaLoRAConfig(posterior="diagonal"))
    trained, noise = model.parameters_to_train(noise_lr=0.5)
    assert [tuple(p.shape) for p in trained["params"]] == [(8, 3), (16, 8), (8, 16), (1, 8)]
    assert [id(p) for p in noise["params"]] == [id(layer.lora_log_std) for layer in model.layers.values()]
    assert noise["lr"] == 0.5


def test_without_features_it_is_lora() -> None:
    net, x = make_net(), torch.randn(5, 3)
    model = BaLoRA(net, CONFIG)
    assert model.noise_network is None and list(model.layers) == ["0", "2"]
    assert torch.equal(model.alpha(x), torch.ones(5, 2))
    (trained,) = model.parameters_to_train(noise_lr=0.5)
    assert len(trained["params"]) == 4 and "lr" not in trained
    assert {name for name in model.state_dict() if not name.startswith("model.")} == set()


def test_noise_starts_where_the_config_says() -> None:
    x = torch.randn(50, 3)
    for config, expected in ((CONFIG, 0.01), (BaLoRAConfig(target_modules=("0",), prior_rate=0.2), 0.25)):
        alpha = BaLoRA(make_net(), config, n_features=3).alpha(x)
        assert alpha.shape == (50, len(config.target_modules))
        assert alpha.mean().item() == pytest.approx(expected, rel=0.2)


def test_frozen_is_the_pretrained_model() -> None:
    net, x = make_net(), torch.randn(5, 3)
    expected = net(x)
    model = BaLoRA(net, CONFIG, n_features=3)
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B)
    assert not torch.allclose(model(x), expected)
    with model.frozen():
        assert torch.equal(model(x), expected)


def test_a_copy_samples_by_itself() -> None:
    model = BaLoRA(make_net(), CONFIG, n_features=3)
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B)
    twin, x = copy.deepcopy(model), torch.randn(5, 3)
    mean = model(x)
    with twin.sampling(twin.alpha(x)):
        assert not torch.allclose(twin(x), mean)
        assert torch.equal(model(x), mean)


def test_the_noise_network_learns_where_targets_scatter() -> None:
    """Targets that scatter at x > 0 only: the closed-form error bars must end up right on both sides."""
    x = torch.linspace(-2, 2, 256)[:, None] * torch.ones(3)
    scatter = torch.where(x[:, 0] > 0, 0.5, 0.05)
    model = BaLoRA(make_net(), CONFIG, n_features=3)
    assert model.noise_network is not None
    model.noise_network.fit_scale(x)
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.5)
    optimizer = torch.optim.Adam(model.noise_network.parameters(), lr=1e-2)
    result = model.sensitivity(x, n_inputs=256)
    for _ in range(400):
        alpha = model.alpha(x)
        y = result.output + scatter * torch.randn(256)
        log_std = 0.5 * result.variance(alpha).log()
        optimizer.zero_grad()
        elbo_loss(gaussian_nll(y, result.output, log_std), model.kl(alpha), beta=1e-6).backward()
        optimizer.step()
    std = result.variance(model.alpha(x)).sqrt()
    assert std[x[:, 0] > 0.3].mean().item() == pytest.approx(0.5, rel=0.2)
    assert std[x[:, 0] < -0.3].mean().item() == pytest.approx(0.05, rel=0.4)


def test_gradient_features_come_through_the_wrapper() -> None:
    model, x = BaLoRA(make_net(), CONFIG, n_features=3), torch.randn(5, 3)
    found = model.sensitivity(x, n_inputs=5, n_dims=8)
    assert found.gradient_features(model.alpha(x)).shape == (5, 8)


def test_what_returns_no_tensor_is_told() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net()

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.net(x)}

    model = BaLoRA(Named(), BaLoRAConfig(target_modules=("net.0",)), n_features=3)
    with pytest.raises(TypeError, match="returns dict, not a tensor"):
        model.sensitivity(torch.randn(5, 3), n_inputs=5)


@pytest.mark.parametrize("moving", [nn.Dropout(0.3), nn.BatchNorm1d(16)])
def test_training_mode_is_refused_where_it_moves_the_output(moving: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(3, 16), moving, nn.Linear(16, 1))
    model, x = BaLoRA(net, BaLoRAConfig(target_modules=("0", "2")), n_features=3), torch.randn(5, 3)
    with pytest.raises(RuntimeError, match="1 is in training mode"):
        model.sensitivity(x, n_inputs=5)
    assert model.eval().sensitivity(x, n_inputs=5).output.shape == (5,)


@pytest.mark.parametrize("take_off", [merge, unadapt])
def test_without_adapters_nothing_is_said_of_what_is_uncertain(take_off: Callable[[nn.Module], None]) -> None:
    model, x = BaLoRA(make_net(), CONFIG, n_features=3), torch.randn(5, 3)
    alpha = model.alpha(x)
    take_off(model.model)
    with pytest.raises(RuntimeError, match="no adapters"), model.sampling(alpha):
        model(x)
    with pytest.raises(RuntimeError, match="no adapters"):
        model.sensitivity(x, n_inputs=5)
