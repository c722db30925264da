"""A gap network behind the last block of the crystal transformer, so that adapters sit inside it.

What the blocks before it give of each atom is computed once and kept on disk, in half precision. Atoms that
symmetry makes equal count once, which leaves two of five in QMOF.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn, segment_reduce

from benchmarks.claims.gap_network import GapNetwork
from benchmarks.claims.pooled import encoder, kept, pooled
from mofgap.choices import BATCH_ATOMS
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import CrystalGraph, first_atoms
from mofgap.crystals.store import GraphStore, StoreBatch, build_store
from mofgap.encoders.crystal_transformer import Block, CrystalTransformer, CrystalTransformerConfig
from mofgap.encoders.encoder import Encoder

Scale = Callable[[Tensor], Tensor]
TOLERANCE = 0.02
"""Root mean square of the difference in features of two atoms that count as equal; a feature's std is 3.5."""


@dataclass(frozen=True, eq=False)
class Atoms:
    """Structures as the last block gets them, without repeated atoms; a structure is named by its position.

    Attributes:
        store: Their graphs.
        features: (n_atoms_total, width) float16 outputs of the last block but one.
        share: (n_atoms_total,) share of its structure's atoms that an atom stands for.
        vectors: (n, 6 width) pooled outputs of the last two blocks, as of `pooled`.
        frozen: The whole transformer.
        terms: (n_atoms_total, K, n_heads + width) float16, what bonds say to the block, once it is known.
        is_known: (n,) of which structures it is.
    """

    store: GraphStore
    features: Tensor
    share: Tensor
    vectors: Tensor
    frozen: CrystalTransformer
    terms: Tensor
    is_known: Tensor

    def rows(self, positions: Tensor) -> Tensor:
        """(n_atoms,) which of some structures each atom belongs to."""
        return torch.repeat_interleave(torch.arange(len(positions)), self.store.n_atoms[positions])

    def batch(self, positions: Tensor) -> tuple[StoreBatch, Tensor, Tensor]:
        """Some structures side by side, features of their atoms, and the terms of their bonds."""
        if len(unknown := positions[~self.is_known[positions]]):
            self._know(unknown)
        batch = self.store.batch(positions.tolist())
        return batch, self.features[batch.row].float(), self.terms[batch.row].float()

    @torch.no_grad()
    def _know(self, positions: Tensor) -> None:
        """Compute terms of bonds that nobody asked for before."""
        batch = self.store.batch(positions.tolist())
        bonds = self.frozen.bonds(batch.atomic_number, batch.neighbour, batch.distance, None)
        block: Block = self.frozen.blocks[-1]  # type: ignore[assignment]
        self.terms[batch.row] = block.bond_terms(bonds).half()
        self.is_known[positions] = True


class LateNetwork(nn.Module):
    """The last block, the pooling over atoms, and a gap network.

    Without adapters it gives what the gap network gives for the pooled vectors.

    Args:
        atoms: The structures that it knows.
        scale: From pooled vectors to what the gap network reads.
        perceptron: The gap network.
    """

    def __init__(self, atoms: Atoms, scale: Scale, perceptron: GapNetwork) -> None:
        super().__init__()
        self.block, self.norm = copy.deepcopy(atoms.frozen.blocks[-1]), copy.deepcopy(atoms.frozen.norm)
        self.perceptron = perceptron
        self.requires_grad_(True)
        self.block.bond.requires_grad_(False)  # its outputs are computed without a gradient
        self._atoms, self._scale = atoms, scale
        self._last: tuple[Tensor, tuple[StoreBatch, Tensor, Tensor]] | None = None

    def forward(self, positions: Tensor) -> Tensor:
        """(n, 2) gaps in eV and logarithms of their standard deviations, of structures by position."""
        if self._last is None or self._last[0] is not positions:  # samples of a batch follow each other
            self._last = positions, self._atoms.batch(positions)
        batch, x, terms = self._last[1]
        x = self.norm(self.block(x, terms, batch.neighbour, batch.weight))
        parts = (self._atoms.share[batch.row, None] * x, "sum"), (x, "max"), (x, "min")
        last = torch.stack([segment_reduce(*part, lengths=batch.ptr.diff()) for part in parts], 1)
        earlier = self._atoms.vectors[positions].unflatten(1, (3, -1))[:, :, : last.shape[2]]
        gaps: Tensor = self.perceptron(self._scale(torch.cat([earlier, last], 2).flatten(1)))
        return gaps


@dataclass(frozen=True)
class LateBlock:
    """A backbone: the last block and a pretrained gap network.

    Attributes:
        atoms: The structures.
        scale: From pooled vectors to what the gap network reads.
        pretrained: Gap network whose hidden layers are copied.
        target_modules: Layers to adapt.
        head: Name of the new last layer.
    """

    atoms: Atoms
    scale: Scale
    pretrained: GapNetwork
    target_modules: tuple[str, ...] = (r"block\.(query|key|value|out|up|down)", r"perceptron\.hidden\.\d+")
    head: str = "perceptron.head"

    @property
    def n_features(self) -> int:
        """Width of alpha's input."""
        return self.pretrained.n_features

    def features(self, positions: Tensor) -> Tensor:
        """What the gap network reads of the frozen transformer."""
        return self.scale(self.atoms.vectors[positions])

    def rows(self, positions: Tensor) -> Tensor:
        """Which structure each atom belongs to."""
        return self.atoms.rows(positions)

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """A copy of the block and of the hidden layers, and a head of this seed."""
        return LateNetwork(self.atoms, self.scale, self.pretrained.with_new_head(n_classes, seed))


def atoms_of(groups: Sequence[Sequence[Crystal]], encoder_name: str, folder: Path) -> Atoms:
    """The structures of some groups, one group after the other.

    Args:
        groups: Of structures; files on disk never hold those of two groups.
        encoder_name: Pretrained crystal transformer, a name or a folder.
        folder: Keeps what was computed.
    """
    parts = [part for group in groups for part in kept("atoms", _computed, group, encoder_name, folder)]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    features, share, counts = (joined.pop(name) for name in ("features", "share", "n_atoms"))
    vectors = torch.cat([pooled(group, encoder_name, folder) for group in groups])
    frozen = encoder(encoder_name)
    assert isinstance(frozen, CrystalTransformer)
    store = GraphStore(first_atoms(counts), **joined)
    n_terms = cast(CrystalTransformerConfig, frozen.config).n_heads + frozen.width
    terms = torch.empty(*store.neighbour.shape, n_terms, dtype=torch.float16)
    return Atoms(store, features, share, vectors, frozen, terms, torch.zeros(len(store), dtype=torch.bool))


@torch.no_grad()
def _computed(crystals: Sequence[Crystal], frozen: Encoder) -> dict[str, Tensor]:
    """The graphs of some structures, and the outputs of the last block but one for their atoms."""
    store, found = build_store(crystals, frozen.graph_config), []
    for batch in store.batches(range(len(store)), BATCH_ATOMS):
        x, extra = frozen.embed(batch)
        for block in range(frozen.n_blocks - 1):
            x = frozen.run_block(block, x, batch, extra)
        found.append(x)
    return without_repeats(store, torch.cat(found))


def without_repeats(store: GraphStore, features: Tensor) -> dict[str, Tensor]:
    """The graphs' arrays with one atom for all equal ones, and ``n_atoms``, ``features`` and ``share``."""
    graphs = [store[i] for i in range(len(store))]
    found = [_distinct(*each) for each in zip(graphs, features.split(store.n_atoms.tolist()), strict=True)]
    return {name: torch.cat([each[name] for each in found]) for name in found[0]}


def _distinct(graph: CrystalGraph, features: Tensor) -> dict[str, Tensor]:
    distance = torch.cdist(features, features) / features.shape[1] ** 0.5
    same = (distance < TOLERANCE) & (graph.atomic_number[:, None] == graph.atomic_number)
    kept, place, counts = same.int().argmax(1).unique(return_inverse=True, return_counts=True)
    return {
        "n_atoms": torch.tensor([len(kept)]),
        "features": features[kept].half(),
        "share": counts / len(features),
        "atomic_number": graph.atomic_number[kept].byte(),
        "neighbour": place[graph.neighbour[kept]].short(),
        "distance": graph.distance[kept],
        "weight": graph.weight[kept],
    }
