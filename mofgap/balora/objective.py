"""The training loss: the expected negative log-likelihood plus the divergence from the prior."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.layer import AdaptedLayer


def kl_per_element(alpha: Tensor, prior_variance: float) -> Tensor:
    """KL(N(a, alpha a²) || N(0, c a²)) in nats; it does not depend on a.

    Args:
        alpha: Posterior variance factors, any shape.
        prior_variance: c.

    Returns:
        The divergence, with the shape of ``alpha``.
    """
    c = prior_variance
    return 0.5 * ((alpha + 1) / c + math.log(c) - alpha.log() - 1)


def elements_per_layer(layers: Mapping[str, AdaptedLayer]) -> Tensor:
    """(n_layers,) r * d_in, the number of random elements of each adapted layer."""
    return torch.tensor([float(layer.lora_A.numel()) for layer in layers.values()])


def kl_divergence(alpha: Tensor, n_elements: Tensor, prior_variance: float) -> Tensor:
    """Divergence of the posterior over all A from the prior, in nats.

    Args:
        alpha: (n_inputs, n_layers) posterior variance factors.
        n_elements: (n_layers,) elements of each layer's A.
        prior_variance: c.

    Returns:
        (n_inputs,).
    """
    # In half precision this many elements overflow; autocast would compute a matrix product in it.
    alpha = alpha.to(torch.promote_types(alpha.dtype, torch.float32))
    return (kl_per_element(alpha, prior_variance) * n_elements.to(alpha)).sum(-1)


def diagonal_kl(layers: Mapping[str, AdaptedLayer], init_scale: float) -> Tensor:
    """() divergence of the posterior N(A, spread²) from N(0, init_scale² / d_in), the start of A, in nats."""
    total = torch.zeros(())
    for layer in layers.values():
        prior = init_scale**2 / layer.lora_A.shape[1]
        ratio = layer.spread.square() / prior
        total = total.to(ratio) + 0.5 * (ratio + layer.lora_A.square() / prior - 1 - ratio.log()).sum()
    return total


def optimal_alpha(
    per_layer: Tensor, n_elements: Tensor, prior_variance: float, *, curvature: float, weight: float
) -> Tensor:
    """(n_inputs, n_layers) alpha that minimises the loss: c / (1 + c h s / w).

    w is ``weight`` times the elements of the layer. To second order, noise raises the expected loss of an
    input by h alpha s / 2. The minimum balances this with the divergence from the prior.

    Args:
        per_layer: (n_inputs, n_layers) s, variance of the outputs for alpha = 1.
        n_elements: (n_layers,) number of elements of each layer's A.
        prior_variance: c.
        curvature: h, second derivative of the negative log-likelihood by the output.
        weight: Factor of the divergence in the loss of one input.
    """
    c = prior_variance
    pull = curvature * per_layer / (weight * n_elements).clamp_min(torch.finfo(per_layer.dtype).tiny)
    return c / (1 + c * pull)


def analytic_alpha(layers: Mapping[str, AdaptedLayer], config: BaLoRAConfig, per_layer: Tensor) -> Tensor:
    """(n_inputs, n_layers) `optimal_alpha` of adapted layers, for a config with ``n_train``."""
    assert config.n_train is not None
    return optimal_alpha(
        per_layer,
        elements_per_layer(layers).to(per_layer),
        config.prior_variance,
        curvature=config.curvature,
        weight=config.beta / config.n_train,
    )


def gaussian_nll(target: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Negative log-likelihood of a normal distribution, in nats, element-wise.

    Raises:
        ValueError: If the tensors ``target`` and ``mean`` differ in shape.
    """
    _check_same_shape(target, mean)
    z = (target - mean) * torch.exp(-log_std)
    return 0.5 * z.square() + log_std + 0.5 * math.log(2 * math.pi)


def laplace_nll(target: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Negative log-likelihood of a Laplace distribution, in nats, element-wise.

    It is parametrised by its standard deviation, sqrt(2) times the scale, as `gaussian_nll` is.

    Raises:
        ValueError: If the tensors ``target`` and ``mean`` differ in shape.
    """
    _check_same_shape(target, mean)
    z = math.sqrt(2) * (target - mean).abs() * torch.exp(-log_std)
    return z + log_std + 0.5 * math.log(2)


def _check_same_shape(target: Tensor, mean: Tensor) -> None:
    if target.shape != mean.shape:  # (n,) and (n, 1) would broadcast to n² pairs
        raise ValueError(f"targets are {tuple(target.shape)} and means {tuple(mean.shape)}")


def elbo_loss(nll: Tensor, kl: Tensor, *, beta: float = 1.0, normaliser: float = 1.0) -> Tensor:
    """Mean of nll + beta * kl / normaliser over the batch: the negative ELBO for beta = normaliser = 1.

    The divergence sums over tens of thousands of elements of all A, the likelihood is of one number. The
    normaliser is a choice:

    - 1: the bound (ELBO) of a model with separate weights for each input. The posterior stays at the prior.
    - the number of training inputs: one set of weights for the whole training set, the usual convention of
      Bayesian neural networks.
    - ``elements_per_layer(layers).sum()``: the mean divergence of an element, comparable between ranks and
      models. Choose beta on validation data.

    Args:
        nll: (n_inputs,) negative log-likelihood of a sample from the posterior, in nats.
        kl: (n_inputs,) from `kl_divergence`, in nats.
        beta: Weight of the divergence; warm it up from zero.
        normaliser: Divisor of the divergence.

    Returns:
        () the loss, in nats an input.
    """
    return (nll + beta / normaliser * kl).mean()
