"""Graphs of many structures in flat arrays, and batches cut from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import CrystalGraph, GraphConfig, neighbour_table, pack_by_atoms


@dataclass(frozen=True, eq=False)
class GraphStore:
    """Graphs of many structures in flat arrays.

    Attributes:
        start: (n_structures + 1,) first atom of each structure.
        atomic_number: (n_atoms_total,) uint8.
        neighbour: (n_atoms_total, K) int16, counted within the structure.
        distance: (n_atoms_total, K) float32, angstrom.
        weight: (n_atoms_total, K) float32.
    """

    start: Tensor
    atomic_number: Tensor
    neighbour: Tensor
    distance: Tensor
    weight: Tensor

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.start) - 1

    @property
    def n_atoms(self) -> Tensor:
        """(n_structures,) atoms of each structure."""
        return self.start.diff()

    def __getitem__(self, index: int) -> CrystalGraph:
        """The graph of one structure."""
        rows = slice(int(self.start[index]), int(self.start[index + 1]))
        return CrystalGraph(
            atomic_number=self.atomic_number[rows].long(),
            neighbour=self.neighbour[rows].long(),
            distance=self.distance[rows],
            weight=self.weight[rows],
            num_nodes=rows.stop - rows.start,
        )

    def atom_rows(self, positions: Sequence[int]) -> Tensor:
        """Rows of the flat arrays that hold the atoms of these structures, in order."""
        return torch.cat([torch.arange(int(self.start[i]), int(self.start[i + 1])) for i in positions])

    def subset(self, positions: Sequence[int]) -> GraphStore:
        """The graphs of some structures, in this order, in arrays of their own."""
        rows = self.atom_rows(positions)
        ends = self.n_atoms[torch.as_tensor(positions)].cumsum(0)
        arrays = {name: array[rows] for name, array in vars(self).items() if name != "start"}
        return GraphStore(start=torch.cat([ends.new_zeros(1), ends]), **arrays)

    def batch(self, positions: Sequence[int]) -> Batch:
        """The torch-geometric batch of some structures, cut from the arrays in one go.

        Its ``position`` (n_graphs,) and ``row`` (n_atoms,) say which structures and rows these are.
        """
        rows = self.atom_rows(positions)
        position = torch.as_tensor(positions)
        counts = self.n_atoms[position]
        ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        owner = torch.repeat_interleave(torch.arange(len(position)), counts)
        batch = Batch(
            _base_cls=CrystalGraph,
            atomic_number=self.atomic_number[rows].long(),
            neighbour=self.neighbour[rows].long() + ptr[owner][:, None],
            distance=self.distance[rows],
            weight=self.weight[rows],
            batch=owner,
            ptr=ptr,
            num_nodes=len(rows),
            position=position,
            row=rows,
        )
        batch._num_graphs = len(position)
        return batch

    def batches(
        self, positions: Sequence[int], max_atoms: int, device: torch.device | str = "cpu"
    ) -> Iterator[Batch]:
        """Batches of at most ``max_atoms`` atoms of some structures, order kept; see `pack_by_atoms`."""
        chosen = np.asarray(positions, dtype=np.int64)
        for pack in pack_by_atoms(self.n_atoms[chosen].tolist(), max_atoms):
            yield self.batch(chosen[pack].tolist()).to(device)


def build_store(crystals: Iterator[Crystal] | Sequence[Crystal], config: GraphConfig) -> GraphStore:
    """Compute the graphs of many crystals."""
    tables, numbers = [], []
    for crystal in crystals:
        tables.append(neighbour_table(crystal, config))
        numbers.append(crystal.atomic_numbers)
    counts = [len(z) for z in numbers]
    index = np.int16 if max(counts, default=0) <= np.iinfo(np.int16).max else np.int32
    return GraphStore(
        start=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)),
        atomic_number=torch.from_numpy(np.concatenate(numbers).astype(np.uint8)),
        neighbour=torch.from_numpy(np.concatenate([t[0] for t in tables]).astype(index)),
        distance=torch.from_numpy(np.concatenate([t[1] for t in tables])),
        weight=torch.from_numpy(np.concatenate([t[2] for t in tables])),
    )
