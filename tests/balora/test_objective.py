from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Laplace, Normal
from torch.distributions import kl_divergence as torch_kl

from mofgap.balora import (
    AdaptedLinear,
    elbo_loss,
    elements_per_layer,
    gaussian_nll,
    kl_divergence,
    kl_per_element,
    laplace_nll,
)
from mofgap.balora.objective import diagonal_kl

reals = st.floats(-5, 5)


@given(a=st.floats(0.01, 10), sign=st.sampled_from([-1, 1]), log_alpha=st.floats(-8, 3), c=st.floats(0.01, 9))
def test_kl_is_that_of_torch(a: float, sign: int, log_alpha: float, c: float) -> None:
    mean = torch.tensor(sign * a, dtype=torch.float64)
    alpha = torch.tensor(log_alpha, dtype=torch.float64).exp()
    expected = torch_kl(Normal(mean, alpha.sqrt() * a), Normal(0.0, math.sqrt(c) * a))
    torch.testing.assert_close(kl_per_element(alpha, c), expected.double(), atol=1e-6, rtol=1e-6)


def test_kl_is_least_at_the_prior() -> None:
    alpha = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    kl_per_element(alpha, 0.3).backward()
    torch.testing.assert_close(alpha.grad, torch.zeros_like(alpha))


def test_kl_of_layers_sums_over_their_elements() -> None:
    layers = {
        "a": AdaptedLinear(nn.Linear(3, 5), rank=2).double(),
        "b": AdaptedLinear(nn.Linear(4, 1), rank=2).double(),
    }
    alpha, c = torch.rand(6, 2, dtype=torch.float64) + 0.01, 0.2
    expected = torch.zeros(6, dtype=torch.float64)
    for index, layer in enumerate(layers.values()):
        A = layer.lora_A.detach()
        for i, a in enumerate(alpha[:, index]):
            expected[i] += torch_kl(Normal(A, a.sqrt() * A.abs()), Normal(0 * A, c**0.5 * A.abs())).sum()
    torch.testing.assert_close(kl_divergence(alpha, elements_per_layer(layers), c), expected)


def test_kl_of_a_spread_of_its_own_is_that_of_torch() -> None:
    """Of layers of different widths, so that the prior of each has its own width."""
    layers = {"a": AdaptedLinear(nn.Linear(3, 5), rank=2), "b": AdaptedLinear(nn.Linear(8, 1), rank=2)}
    expected = torch.zeros(())
    for layer in layers.values():
        layer.double().learn_spread(0.3)
        spread, d_in = 0.1 + torch.rand_like(layer.lora_A), layer.lora_A.shape[1]
        layer.lora_log_std.data = spread.log()  # type: ignore[union-attr]
        prior = Normal(torch.zeros_like(spread), 0.5 * d_in**-0.5)
        expected = expected + torch_kl(Normal(layer.lora_A.detach(), spread), prior).sum()
    torch.testing.assert_close(diagonal_kl(layers, 0.5).detach(), expected)


@given(target=reals, mean=reals, log_std=st.floats(-3, 3))
def test_likelihoods_are_those_of_torch(target: float, mean: float, log_std: float) -> None:
    y, mu, s = torch.tensor([target, mean, log_std], dtype=torch.float64)
    torch.testing.assert_close(gaussian_nll(y, mu, s), -Normal(mu, s.exp()).log_prob(y))
    laplace = Laplace(mu, s.exp() / math.sqrt(2))
    torch.testing.assert_close(laplace_nll(y, mu, s), -laplace.log_prob(y))
    torch.testing.assert_close(laplace.stddev, s.exp())


def test_elbo_weighs_the_divergence() -> None:
    nll, kl = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0])
    torch.testing.assert_close(elbo_loss(nll, kl), torch.tensor(22.0))
    torch.testing.assert_close(elbo_loss(nll, kl, beta=0.5, normaliser=10.0), torch.tensor(3.0))


@pytest.mark.parametrize("nll", [gaussian_nll, laplace_nll])
def test_a_column_of_means_is_not_paired_with_every_target(nll: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"\(5,\).*\(5, 1\)"):
        nll(torch.zeros(5), torch.zeros(5, 1), torch.tensor(0.0))


def test_the_divergence_of_many_elements_is_finite_in_half_precision() -> None:
    alpha, elements = torch.full((2, 1), 0.3, dtype=torch.float16), torch.tensor([70_000])
    found, expected = kl_divergence(alpha, elements, 0.1), kl_divergence(alpha.float(), elements, 0.1)
    torch.testing.assert_close(found, expected)
