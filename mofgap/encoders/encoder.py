"""What an encoder is: crystal graphs in, atom features out."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from mofgap.crystals.graph import GraphConfig


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        width: Features of an atom in one output.
        n_outputs: Outputs an atom has, such as one a block.
        graph_config: The graph it expects.
    """

    width: int
    n_outputs: int
    graph_config: GraphConfig

    def prepare(self, batch: Any) -> Any:
        """What no adapted layer touches, computed once for several passes over the same batch."""
        return None

    @abstractmethod
    def forward(self, batch: Any, prepared: Any = None) -> Tensor:
        """Encode the atoms of a torch-geometric batch of ``CrystalGraph``.

        Args:
            batch: Graph or batch of graphs.
            prepared: What ``prepare`` gave for this batch, or None.

        Returns:
            (n_atoms, n_outputs, width).
        """
