"""Graphs of many structures in flat arrays, and batches cut from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import CrystalGraph, GraphConfig, crystal_graph, first_atoms, pack_by_atoms


@dataclass(frozen=True, eq=False)
class StoreBatch(CrystalGraph):
    """Some structures of a store side by side.

    Attributes:
        position: (n_graphs,) which structures of the store they are; on the CPU.
        row: (n_atoms,) which rows of its arrays their atoms are; on the CPU.
    """

    position: Tensor
    row: Tensor


@dataclass(frozen=True, eq=False)
class GraphStore:
    """Graphs of many structures in flat arrays.

    Attributes:
        ptr: (n_structures + 1,) first atom of each structure.
        atomic_number: (n_atoms_total,) uint8.
        neighbour: (n_atoms_total, K) int16, counted within the structure.
        distance: (n_atoms_total, K) float32, angstrom.
        weight: (n_atoms_total, K) float32.
        share: (n_atoms_total,) float32, see `CrystalGraph`; None where each atom stands for itself.
    """

    ptr: Tensor
    atomic_number: Tensor
    neighbour: Tensor
    distance: Tensor
    weight: Tensor
    share: Tensor | None = None

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.ptr) - 1

    @property
    def n_atoms(self) -> Tensor:
        """(n_structures,) atoms of each structure."""
        return self.ptr.diff()

    @property
    def arrays(self) -> dict[str, Tensor]:
        """The arrays that there are, by name."""
        return {name: array for name, array in vars(self).items() if array is not None}

    def __getitem__(self, index: int) -> CrystalGraph:
        """The graph of one structure."""
        rows = slice(int(self.ptr[index]), int(self.ptr[index + 1]))
        return CrystalGraph(
            ptr=torch.tensor([0, rows.stop - rows.start]),
            atomic_number=self.atomic_number[rows].long(),
            neighbour=self.neighbour[rows].long(),
            distance=self.distance[rows],
            weight=self.weight[rows],
            share=None if self.share is None else self.share[rows],
        )

    def atom_rows(self, positions: Sequence[int]) -> Tensor:
        """Rows of the flat arrays that hold the atoms of these structures, in order."""
        return torch.cat([torch.arange(int(self.ptr[i]), int(self.ptr[i + 1])) for i in positions])

    def subset(self, positions: Sequence[int]) -> GraphStore:
        """The graphs of some structures, in this order, in arrays of their own."""
        rows = self.atom_rows(positions)
        ptr = first_atoms(self.n_atoms[torch.as_tensor(positions)])
        arrays = {name: array[rows] for name, array in self.arrays.items() if name != "ptr"}
        return GraphStore(ptr=ptr, **arrays)

    def batch(self, positions: Sequence[int]) -> StoreBatch:
        """Some structures side by side, cut from the arrays in one go."""
        rows, position = self.atom_rows(positions), torch.as_tensor(positions)
        counts = self.n_atoms[position]
        ptr = first_atoms(counts)
        shift = torch.repeat_interleave(ptr[:-1], counts)
        return StoreBatch(
            ptr=ptr,
            atomic_number=self.atomic_number[rows].long(),
            neighbour=self.neighbour[rows].long() + shift[:, None],
            distance=self.distance[rows],
            weight=self.weight[rows],
            share=None if self.share is None else self.share[rows],
            position=position,
            row=rows,
        )

    def batches(
        self, positions: Sequence[int], max_atoms: int, device: torch.device | str = "cpu"
    ) -> Iterator[StoreBatch]:
        """Batches of at most ``max_atoms`` atoms of some structures, order kept; see `pack_by_atoms`."""
        chosen = np.asarray(positions, dtype=np.int64)
        for pack in pack_by_atoms(self.n_atoms[chosen].tolist(), max_atoms):
            yield self.batch(chosen[pack].tolist()).to(device)


def build_store(crystals: Iterable[Crystal], config: GraphConfig) -> GraphStore:
    """Compute the graphs of many crystals."""
    return store_of(crystal_graph(crystal, config) for crystal in crystals)


def store_of(graphs: Iterable[CrystalGraph]) -> GraphStore:
    """Put graphs of one structure each, at least one, into flat arrays; all or none have a ``share``."""
    tables: dict[str, list[Tensor]] = {}
    for graph in graphs:
        for name, dtype in (("atomic_number", torch.uint8), ("neighbour", torch.int32)):
            tables.setdefault(name, []).append(getattr(graph, name).to(dtype))
        for name in ("distance", "weight", "share"):
            if (table := getattr(graph, name)) is not None:
                tables.setdefault(name, []).append(table)
    counts = torch.tensor([len(numbers) for numbers in tables["atomic_number"]])
    arrays = {name: torch.cat(parts) for name, parts in tables.items()}
    if counts.max() <= torch.iinfo(torch.int16).max:
        arrays["neighbour"] = arrays["neighbour"].short()
    return GraphStore(ptr=first_atoms(counts), **arrays)
