"""SchNet of torch-geometric, over the periodic neighbour table of mofgap.

Schütt et al., J. Chem. Phys. 148, 241722 (2018). SchNet's filters are multiplied by a cosine of the distance,
which falls to zero at the cutoff. Here they are multiplied by the graph's envelope, which falls to zero at an
atom's last neighbour too. So the choice among neighbours at equal distances does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn.models import schnet

from mofgap.crystals.elements import MAX_Z
from mofgap.crystals.graph import CrystalGraph
from mofgap.encoders.encoder import Encoder, EncoderConfig


@dataclass(frozen=True)
class SchNetConfig(EncoderConfig):
    """Size of the encoder.

    Attributes:
        n_blocks: Interaction blocks.
        n_filters: Number of filters of a block.
        n_gaussians: Radial basis functions of a distance; at least 2.

    Raises:
        ValueError: If ``n_gaussians`` is below 2, another whole number is below 1, or ``cutoff_angstrom`` is
            not in 1 to 12.
    """

    n_filters: int = 128
    n_gaussians: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_gaussians < 2:
            raise ValueError(f"n_gaussians must be at least 2, not {self.n_gaussians}")


class SchNet(Encoder):
    """Continuous-filter convolutions: an atom sums its neighbours' features, weighted by distance.

    Args:
        config: Size of the encoder.
    """

    Config = SchNetConfig
    block_list = "interactions"
    adaptable = ("conv.lin1", "conv.lin2", "lin")

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__(config)
        # SchNet's own ends at 99 elements.
        self.embedding = nn.Embedding(MAX_Z + 1, config.width)
        self.distance_expansion = schnet.GaussianSmearing(0.0, config.cutoff_angstrom, config.n_gaussians)
        sizes = config.width, config.n_gaussians, config.n_filters, config.cutoff_angstrom
        self.interactions = nn.ModuleList(schnet.InteractionBlock(*sizes) for _ in range(config.n_blocks))
        for block in self.interactions:
            del block.mlp  # it is conv.nn too, and safetensors writes no weight under two names

    def embed(self, batch: CrystalGraph) -> tuple[Tensor, Any]:
        """Features of the elements; atoms, expanded distances and envelopes of the bonds."""
        bonds = batch.to_pyg()
        radial = self.distance_expansion(bonds.edge_length)
        return self.embedding(bonds.z), (bonds.edge_index, radial, bonds.edge_weight[:, None])

    def run_block(self, i: int, x: Tensor, batch: CrystalGraph, extra: Any) -> Tensor:
        """``InteractionBlock`` of torch-geometric, with the envelope in place of its cosine."""
        edge_index, radial, envelope = extra
        block: Any = self.interactions[i]
        conv = block.conv
        filters = conv.nn(radial) * envelope
        gathered = conv.propagate(edge_index, x=conv.lin1(x), W=filters)
        change: Tensor = block.lin(block.act(conv.lin2(gathered)))
        return x + change
