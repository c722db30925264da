"""Reduce trained adapters to a lower rank, without a change of the mean."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mofgap.balora.layer import AdaptedLayer

_NEGLIGIBLE = 1e-6
"""A singular value below this part of the largest is an error of float32."""


@torch.no_grad()
def lower_rank(layers: Mapping[str, AdaptedLayer], rank: int) -> dict[str, float]:
    """Keep the largest singular values of each product B A as the adapter; the rest is added to W0.

    This is the best approximation of that rank (Eckart and Young, Psychometrika 1, 211, 1936). A and B each
    get the square root of a singular value. W0 changes until the adapters are taken off, and with it what
    `frozen` computes: alpha(X) moves a little. Saved adapters hold the new W0.

    Args:
        layers: Adapted layers by name, changed in place.
        rank: Their new rank; a layer whose width is smaller gets its width.

    Returns:
        The share of each update's sum of squares that its adapter keeps, by name.

    Raises:
        ValueError: If ``rank`` is below 1 or above that of a layer, or a layer has a trained standard
            deviation for each element of A.
    """
    for name, layer in layers.items():
        if not 1 <= rank <= layer.rank:
            raise ValueError(f"{name} has rank {layer.rank}: it can be cut to 1 to {layer.rank}, not {rank}")
        if layer.lora_log_std is not None:
            raise ValueError(
                f"{name} has a standard deviation for each element of A: train at the lower rank"
            )
    return {name: _cut(layer, rank) for name, layer in layers.items()}


def _cut(layer: AdaptedLayer, rank: int) -> float:
    before = layer.delta_weight()
    B, A = layer.lora_B.double(), layer.lora_A.double()
    left, values, right = torch.linalg.svd(B @ A, full_matrices=False)
    root = values[:rank].sqrt()
    layer.lora_A = nn.Parameter((root[:, None] * right[:rank]).to(layer.lora_A), layer.lora_A.requires_grad)
    layer.lora_B = nn.Parameter((left[:, :rank] * root).to(layer.lora_B), layer.lora_B.requires_grad)
    layer.folded = None
    if (values[rank:] > _NEGLIGIBLE * values[0]).any():
        weight = layer.base.weight
        layer.replace_base(weight + (before - layer.delta_weight()).to(weight))
    squares = values.square()
    return float(squares[:rank].sum() / squares.sum()) if squares.any() else 1.0
