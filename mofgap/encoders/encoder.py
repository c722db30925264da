"""What an encoder is: crystal graphs in, atom features out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mofgap.crystals.graph import CrystalGraph, GraphConfig


@dataclass(frozen=True)
class Fixed:
    """What no adapted layer touches: the same for every pass over a batch, and computed once.

    Attributes:
        outputs: The encoder's first outputs, each (n_atoms, width); at least one.
        extra: Whatever else the encoder's later part needs.
    """

    outputs: list[Tensor]
    extra: Any = None


class Encoder(nn.Module, ABC):
    """Base of all encoders.

    Attributes:
        width: Features of an atom in one output.
        n_outputs: Outputs an atom has, such as one a block.
        n_fixed: How many of them, from the first, no adapted layer touches.
        graph_config: The graph it expects.
    """

    width: int
    n_outputs: int
    n_fixed: int
    graph_config: GraphConfig

    @abstractmethod
    def fix_below(self, adapted: Iterable[str]) -> None:
        """Set ``n_fixed``.

        Args:
            adapted: Names of the adapted layers.
        """

    @abstractmethod
    def prepare(self, batch: CrystalGraph) -> Fixed:
        """Compute the fixed part of a batch."""

    @abstractmethod
    def forward(self, batch: CrystalGraph, fixed: Fixed | None = None) -> Tensor:
        """Encode the atoms of one structure, or of several side by side.

        Args:
            batch: The structures.
            fixed: What ``prepare`` gave for this batch, or None.

        Returns:
            (n_atoms, n_outputs, width).
        """
