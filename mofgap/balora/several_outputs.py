"""The closed-form covariance of models with several outputs, and of class probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mofgap.balora.layer import AdaptedLayer
from mofgap.balora.rows import InputRows
from mofgap.balora.variance import calls_of, full_precision, gradient_of


@dataclass(frozen=True)
class JointSensitivity:
    """Contribution of each adapted layer to the covariance of an input's outputs, to first order.

    Attributes:
        output: (n_inputs, k) outputs at the posterior mean.
        per_layer: (n_inputs, n_layers, k, k) sum_ij A_ij² (df_c/dA_ij) (df_d/dA_ij) of outputs c and d.
    """

    output: Tensor
    per_layer: Tensor

    def covariance(self, alpha: Tensor) -> Tensor:
        """(n_inputs, k, k) covariance of the outputs, for alpha (n_inputs, n_layers)."""
        return (alpha[:, :, None, None] * self.per_layer).sum(1)

    def variance(self, alpha: Tensor) -> Tensor:
        """(n_inputs, k) variance of each output, for alpha (n_inputs, n_layers)."""
        return self.covariance(alpha).diagonal(dim1=1, dim2=2)

    @property
    def total(self) -> Tensor:
        """(n_inputs, n_layers) sum of the variances of all outputs, for alpha = 1."""
        return self.per_layer.diagonal(dim1=2, dim2=3).sum(-1)


MAX_OUTPUTS = 256
"""Largest number of outputs of an input in the closed form, which takes one backward pass for each."""


def flat_outputs(output: Tensor, cure: str) -> Tensor:
    """(n_inputs, k) the outputs of each input.

    Raises:
        ValueError: If k is above `MAX_OUTPUTS`. The message recommends ``cure``.
    """
    if (k := output.shape[1:].numel()) > MAX_OUTPUTS:
        raise ValueError(f"an input has {k} outputs, a backward pass each in closed form: use {cure}")
    return output.flatten(1) if output.ndim > 1 else output[:, None]


def joint_sensitivity(
    forward: Callable[[], Tensor],
    layers: Mapping[str, AdaptedLayer],
    n_inputs: int,
    row_to_input: Tensor | None = None,
) -> JointSensitivity:
    """Run a model once forward, and once backward for each output.

    As `mofgap.balora.variance.sensitivity`, for outputs (n_inputs, k). To save memory, the gradients of all k
    outputs are computed for one layer at a time.
    """
    # Recordings would be compiled for each batch. The compiler loads as long as torch: not at the top.
    eager: Callable[..., JointSensitivity] = torch.compiler.disable(_joint_sensitivity)
    return eager(forward, layers, n_inputs, row_to_input)


def _joint_sensitivity(
    forward: Callable[[], Tensor],
    layers: Mapping[str, AdaptedLayer],
    n_inputs: int,
    row_to_input: Tensor | None,
) -> JointSensitivity:
    """As `joint_sensitivity`, where nothing is compiled."""
    rows = InputRows(n_inputs, row_to_input)
    output, calls = calls_of(forward, layers, n_inputs)
    per_layer = []
    for place, layer in enumerate(layers.values()):
        A = layer.spread.detach()
        with full_precision(output):
            moved = [gradient_of(of_output[place], A, rows).mul_(A).flatten(1) for of_output in calls]
            M = torch.stack(moved, 1)
            per_layer.append(layer.scaling**2 * M @ M.mT)
    return JointSensitivity(output if output.ndim == 2 else output[:, None], torch.stack(per_layer, 1))


def probabilities_of(logits: Tensor, covariance: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """`class_probabilities` of a model whose output has classes as its last axis, such as one for each token.

    Args:
        logits: (n_inputs, k), all numbers of an input's output.
        covariance: (n_inputs, k, k) of them.
        shape: Of the model's output; (n_inputs,) for one logit.

    Returns:
        Means and standard deviations, of that shape; (n_inputs, 1) for one logit.
    """
    n_classes = shape[-1] if len(shape) > 1 else 1
    of_places = covariance.unflatten(2, (-1, n_classes)).unflatten(1, (-1, n_classes))
    blocks = of_places.diagonal(dim1=1, dim2=3).movedim(3, 1).flatten(0, 1)
    mean, std = class_probabilities(logits.reshape(-1, n_classes), blocks)
    places = shape[:-1] or shape
    return mean.view(*places, mean.shape[1]), std.view(*places, mean.shape[1])


def class_probabilities(logits: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Class probabilities of uncertain logits, and their standard deviations.

    The mean compares classes in pairs by the probit approximation, with the variance of the difference of
    their logits: p_c ~ 1 / (1 + sum_d exp(-(f_c - f_d) / sqrt(1 + π/8 Var(f_c - f_d)))), normalised (Lu, Ie
    and Sha, arXiv 2006.07584). The standard deviation is the delta method, J covariance Jᵀ with
    J = diag(p) - p pᵀ at the mean logits.

    Args:
        logits: (n, k), k > 1; or (n, 1), the logit of the second of two classes.
        covariance: (n, k, k) of the logits.

    Returns:
        (n, k) means and (n, k) standard deviations.
    """
    logits = logits.to(covariance.dtype)  # from half precision
    logits = logits.clamp_min(torch.finfo(logits.dtype).min / 2)  # a masked class, whose logit is -inf
    if logits.shape[1] == 1:
        pair = torch.cat([torch.zeros_like(logits), logits], 1)
        padded = torch.nn.functional.pad(covariance, (1, 0, 1, 0))
        mean, std = class_probabilities(pair, padded)
        return mean[:, 1:], std[:, 1:]
    variance = covariance.diagonal(dim1=1, dim2=2)
    of_difference = (variance[:, :, None] + variance[:, None, :] - 2 * covariance).clamp_min(0)
    difference = (logits[:, None, :] - logits[:, :, None]) / (1 + math.pi / 8 * of_difference).sqrt()
    mean = (-difference.logsumexp(2)).exp()  # the class itself is the 1 in the denominator
    p = logits.softmax(1)
    J = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    with full_precision(J):
        std = (J @ covariance @ J.mT).diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    return mean / mean.sum(1, keepdim=True), std
