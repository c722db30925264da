"""Features of an element: a trained row of a table, or computed from chemical descriptors."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.crystals.elements import MAX_Z
from mofgap.crystals.graph import CrystalGraph
from mofgap.encoders.elements import descriptors

HIDDEN = 64
"""Hidden features of the network on the descriptors."""

DROPOUT = 0.25
"""Share of the structures of a batch whose elements have features from descriptors alone, in training."""


class ElementTable(nn.Embedding):
    """A table of features by atomic number, with one trained row for each element.

    Args:
        width: Features of an element.
    """

    def __init__(self, width: int) -> None:
        super().__init__(MAX_Z + 1, width)

    def forward(self, atomic_number: Tensor, own: Tensor | None = None) -> Tensor:
        """(n_atoms,) atomic numbers to features (n_atoms, width).

        Args:
            atomic_number: The elements; 0 is a masked one.
            own: Ignored; it has a meaning in `DescribedElements`.
        """
        return super().forward(atomic_number)


class DescribedElements(nn.Module):
    """Features from descriptors by a small network, plus one trained residual for each element.

    The residual starts at zero. It stays zero for elements without training structures, which then have
    features from descriptors alone.

    Args:
        width: Features of an element.
    """

    values: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        known = torch.from_numpy(descriptors())
        self.register_buffer("values", known, persistent=False)
        self.network = nn.Sequential(nn.Linear(known.shape[1], HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, width))
        with torch.no_grad():  # start with the mean and standard deviation of the rows of a table
            start = self.network(known[1:])
            last = cast(nn.Linear, self.network[2])
            last.bias.sub_(start.mean(0)).div_(start.std(0))
            last.weight.div_(start.std(0)[:, None])
        self.residual = nn.Embedding(MAX_Z + 1, width)
        nn.init.zeros_(self.residual.weight)

    def forward(self, atomic_number: Tensor, own: Tensor | None = None) -> Tensor:
        """(n_atoms,) atomic numbers to features (n_atoms, width).

        Args:
            atomic_number: The elements; 0 is a masked one.
            own: (n_atoms, 1) factors of the residuals; ones by default.
        """
        shared: Tensor = F.embedding(atomic_number, self.network(self.values))
        residual: Tensor = self.residual(atomic_number)
        return shared + (residual if own is None else own * residual)


ELEMENT_FEATURES: dict[str, Callable[[int], ElementTable | DescribedElements]] = {
    "table": ElementTable,
    "descriptors": DescribedElements,
}
"""Kinds of features by their names in settings."""


def element_dropout(batch: CrystalGraph) -> Tensor:
    """(n_atoms, 1) zeros for the atoms of a random `DROPOUT` share of the structures, ones for the others."""
    kept = torch.rand(batch.n_graphs, device=batch.atomic_number.device) >= DROPOUT
    return kept.to(batch.distance)[batch.structure_idx, None]
