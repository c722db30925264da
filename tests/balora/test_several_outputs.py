from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mofgap.balora import (
    BaLoRAConfig,
    adapt,
    class_probabilities,
    get_balora_model,
    joint_sensitivity,
    sampling,
    sensitivity,
)
from tests.balora.test_wrapper import X, made

N = 4096


def net_with(k: int, alpha: float) -> tuple[nn.Sequential, dict, torch.Tensor, torch.Tensor]:  # type: ignore[type-arg]
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, k)).double()
    layers = adapt(net, BaLoRAConfig(target_modules=("0", "2"), r=3, lora_alpha=3.0))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
    return net, layers, torch.randn(5, 6, dtype=torch.float64), torch.full((5, 2), alpha, dtype=torch.float64)


def drawn(net: nn.Module, layers: dict, x: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:  # type: ignore[type-arg]
    """(N, n, k) samples; an input is one row, whose own noise is a draw of the weights."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), sampling(layers, alpha.repeat(N, 1), generator=generator, kind="rows"):
        output: torch.Tensor = net(x.repeat(N, 1))
    return output.view(N, len(x), -1)


def test_covariance_of_several_outputs_against_4096_samples() -> None:
    net, layers, x, alpha = net_with(3, 0.002)
    found = joint_sensitivity(lambda: net(x), layers, 5)
    samples = drawn(net, layers, x, alpha)
    centred = samples - samples.mean(0)
    sampled = torch.einsum("snc,snd->ncd", centred, centred) / (N - 1)
    std = found.variance(alpha).sqrt()
    torch.testing.assert_close(std, samples.std(0), rtol=0.06, atol=0)
    scale = std[:, :, None] * std[:, None, :]
    torch.testing.assert_close(found.covariance(alpha) / scale, sampled / scale, rtol=0, atol=0.1)


def test_one_output_is_as_in_the_scalar_form() -> None:
    net, layers, x, alpha = net_with(3, 0.1)
    joint = joint_sensitivity(lambda: net(x), layers, 5)
    for c in range(3):
        alone = sensitivity(lambda c=c: net(x)[:, c], layers, 5)
        torch.testing.assert_close(joint.variance(alpha)[:, c], alone.variance(alpha))
    torch.testing.assert_close(joint.total, joint.per_layer.diagonal(dim1=2, dim2=3).sum(-1))


@pytest.mark.parametrize(("k", "alpha"), [(1, 0.01), (2, 0.01), (3, 0.01), (3, 0.05)])
def test_class_probabilities_against_4096_samples(k: int, alpha: float) -> None:
    net, layers, x, alphas = net_with(k, alpha)
    found = joint_sensitivity(lambda: net(x), layers, 5)
    mean, std = class_probabilities(found.output, found.covariance(alphas))
    logits = drawn(net, layers, x, alphas)
    p = logits.sigmoid() if k == 1 else logits.softmax(-1)
    assert mean.shape == std.shape == (5, k)
    torch.testing.assert_close(mean, p.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(std, p.std(0), rtol=0.25, atol=0.01)
    plain = found.output.sigmoid() if k == 1 else found.output.softmax(-1)
    if alpha == 0.05:  # wide enough that the plain softmax of the mean is worse
        assert (mean - p.mean(0)).abs().mean() < (plain - p.mean(0)).abs().mean()


def test_two_classes_are_one_logit() -> None:
    logit, variance = torch.tensor([[0.7], [-2.0]]), torch.tensor([[[0.5]], [[2.0]]])
    mean, std = class_probabilities(logit, variance)
    pair = torch.cat([torch.zeros_like(logit), logit], 1)
    both, stds = class_probabilities(pair, torch.nn.functional.pad(variance, (1, 0, 1, 0)))
    torch.testing.assert_close(mean[:, 0], both[:, 1])
    torch.testing.assert_close(std[:, 0], stds[:, 1])
    torch.testing.assert_close(both.sum(1), torch.ones(2))
    torch.testing.assert_close(mean, torch.sigmoid(logit / (1 + torch.pi / 8 * variance[:, 0]).sqrt()))


def test_the_covariance_of_a_model_has_the_variances_of_predict() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    model = get_balora_model(net, BaLoRAConfig(r=2))
    nn.init.normal_(next(iter(model.layers.values())).lora_B)
    x = torch.randn(5, 4)
    mean, covariance = model.eval().covariance(x)
    expected, std = model.predict(x)
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(covariance.diagonal(dim1=1, dim2=2).sqrt(), std)
    assert not covariance.requires_grad


def test_a_masked_class_has_the_probability_zero() -> None:
    logits, covariance = torch.tensor([[1.0, 2.0, -math.inf]]), 0.3 * torch.eye(3)[None]
    covariance[:, 2] = covariance[:, :, 2] = 0
    mean, std = class_probabilities(logits, covariance)
    others = class_probabilities(logits[:, :2], covariance[:, :2, :2])
    torch.testing.assert_close(mean, torch.nn.functional.pad(others[0], (0, 1)))
    torch.testing.assert_close(std, torch.nn.functional.pad(others[1], (0, 1)))


def test_probabilities_of_tokens_are_of_each_token() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    model = made(net, initial_alpha=0.003).eval()
    tokens = X.view(2, 3, 4)
    mean, std = model.predict_proba(tokens)
    assert mean.shape == std.shape == (2, 3, 3)
    torch.testing.assert_close(mean.sum(2), torch.ones(2, 3))
    drawn = model.sample(tokens, 2000, seed=0).softmax(3)
    torch.testing.assert_close(mean, drawn.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(std, drawn.std(0), atol=0.01, rtol=0.1)


def test_probabilities_of_half_precision_are_those_of_single() -> None:
    model = made(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))).eval()
    expected = model.predict_proba(X)[0]
    model.model.bfloat16()
    torch.testing.assert_close(model.predict_proba(X.bfloat16())[0], expected, atol=0.02, rtol=0.05)


def test_without_adapters_probabilities_are_certain() -> None:
    model = made().eval()
    with model.disable_adapter():
        mean, std = model.predict_proba(X)
        logits, covariance = model.covariance(X)
    torch.testing.assert_close(mean, logits.softmax(1))
    assert not std.any() and covariance.shape == (6, 2, 2) and not covariance.any()
