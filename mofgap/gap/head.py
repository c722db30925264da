"""From atom features to a gap: pooling and the gap head.

A gap is set by the highest filled and the lowest empty state, and either may sit on a few atoms. Therefore
the pool keeps the extremes as well as the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mofgap.crystals.graph import CrystalGraph

LOG_STD_RANGE = (-5.0, 2.0)
"""Bounds of the log of the aleatoric spread, in units of the spread of the gaps."""

SOFTNESS = 0.02
"""Atoms whose activations are this near to an extreme share its gradient, in units of the activations. The
spread of atoms is about 0.1. Without it the gradient of a structure jumps, by up to a seventh, where another
atom takes over an extreme. On split val 0, 0.02, 0.05 and 0.15 rank errors equally well."""


def pool(
    x: Tensor, structure_idx: Tensor, n_graphs: int, softness: float = 0.0, share: Tensor | None = None
) -> Tensor:
    """Mean, largest and smallest value of each feature over the atoms of each structure.

    Args:
        x: (n_atoms, n_features).
        structure_idx: (n_atoms,) structure of each atom.
        n_graphs: Number of structures.
        softness: Share the gradient of an extreme v among atoms with weights exp(-abs(x - v) / softness), so
            that it depends smoothly on x; 0 gives it to the atoms that hold the extreme. Values stay.
        share: (n_atoms,) share of its structure's atoms that an atom stands for, see `CrystalGraph`; None for
            equal ones.

    Returns:
        (n_graphs, 3 n_features). It does not change when a cell is repeated.
    """
    if softness:
        with torch.no_grad():
            hard = pool(x, structure_idx, n_graphs, share=share)
        soft = _soft(x, structure_idx, hard, softness, share)
        return hard + (soft - soft.detach())
    if n_graphs == 1:
        mean = x.mean(0) if share is None else share @ x
        return torch.cat([mean, x.amax(0), x.amin(0)])[None]
    index = structure_idx[:, None].expand_as(x)
    empty = x.new_zeros(n_graphs, x.shape[1])
    parts = [empty.scatter_reduce(0, index, x, how, include_self=False) for how in ("mean", "amax", "amin")]
    if share is not None:
        parts[0] = empty.index_add(0, structure_idx, x * share[:, None])
    return torch.cat(parts, dim=1)


def _soft(x: Tensor, structure_idx: Tensor, hard: Tensor, softness: float, share: Tensor | None) -> Tensor:
    """(n_graphs, 3 n_features) means of the features, with weights of their own for each extreme."""
    if share is None:
        share = 1 / torch.bincount(structure_idx, minlength=len(hard)).to(x)[structure_idx]
    mean, largest, smallest = hard.chunk(3, dim=1)
    parts = [torch.zeros_like(mean).index_add_(0, structure_idx, share[:, None] * x)]
    for extreme in (largest, smallest):
        weight = share[:, None] * (-(x.detach() - extreme[structure_idx]).abs() / softness).exp()
        total = torch.zeros_like(extreme).index_add_(0, structure_idx, weight)
        parts.append(torch.zeros_like(extreme).index_add(0, structure_idx, weight / total[structure_idx] * x))
    return torch.cat(parts, dim=1)


class GapHead(nn.Module):
    """Mean and log spread of a gap in normalised units.

    Args:
        n_features: Features of an atom over all outputs of the encoder.
        hidden: Width of the hidden layers.
    """

    def __init__(self, n_features: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_features)
        self.atom = nn.Linear(n_features, hidden)
        self.hidden = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 2)

    def forward(self, features: Tensor, batch: CrystalGraph) -> tuple[Tensor, Tensor]:
        """(n_atoms, n_outputs, width) atom features to mean and log std, each (n_graphs,)."""
        pooled = pool(self.activations(features), batch.structure_idx, batch.n_graphs, share=batch.share)
        return self.from_pooled(pooled)

    def activations(self, features: Tensor) -> Tensor:
        """(n_atoms, n_outputs, width) atom features to (n_atoms, hidden) activations, which are pooled."""
        return nn.functional.silu(self.atom(self.norm(features.flatten(1)))).float()

    def from_pooled(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(n_graphs, 3 hidden) pooled activations to mean and log std, each (n_graphs,)."""
        mean, log_std = self.out(nn.functional.silu(self.hidden(pooled))).float().unbind(1)
        return mean, log_std.clamp(*LOG_STD_RANGE)
