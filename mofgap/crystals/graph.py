"""Crystal graphs: a dense table of each atom's nearest neighbours, and batches of them.

The table must not depend on how a crystal is written down. The K nearest neighbours are ambiguous where
distances tie. Each atom's neighbours are therefore weighted by an envelope that falls smoothly to zero at
the atom's (K+1)-th distance: whichever of the tied neighbours is kept, it has no weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pymatgen.optimization.neighbors import find_points_in_spheres
from torch import Tensor

from mofgap.crystals.crystal import Crystal

if TYPE_CHECKING:
    from torch_geometric.data import Data

_TABLES = ("atomic_number", "neighbour", "distance", "weight", "share")
_COINCIDENT_ANGSTROM = 1e-8


@dataclass(frozen=True)
class GraphConfig:
    """How a crystal becomes a graph.

    Attributes:
        n_neighbours: K, neighbours kept for each atom.
        cutoff_angstrom: Neighbours farther than this are not seen.
    """

    n_neighbours: int = 16
    cutoff_angstrom: float = 6.0

    def __post_init__(self) -> None:
        if self.n_neighbours < 1:
            raise ValueError(f"n_neighbours must be at least 1, not {self.n_neighbours}")
        if not 1.0 <= self.cutoff_angstrom <= 12.0:
            raise ValueError(f"cutoff_angstrom must lie in 1..12 angstrom, not {self.cutoff_angstrom}")


@dataclass(frozen=True, eq=False)
class CrystalGraph:
    """A dense table of each atom's neighbours, of one structure or of several side by side.

    Attributes:
        ptr: (n_graphs + 1,) int64, first atom of each structure; on the CPU, wherever the others are.
        atomic_number: (n_atoms,) int64.
        neighbour: (n_atoms, K) int64 indices of neighbours, counted over the atoms of all structures.
        distance: (n_atoms, K) float32, angstrom.
        weight: (n_atoms, K) float32 envelope in 0..1; zero where there is no neighbour.
        share: (n_atoms,) share of its structure's atoms that an atom stands for; None where each stands for
            itself, see `mofgap.crystals.distinct`.
    """

    ptr: Tensor
    atomic_number: Tensor
    neighbour: Tensor
    distance: Tensor
    weight: Tensor
    share: Tensor | None = field(default=None, kw_only=True)

    @property
    def n_graphs(self) -> int:
        """Number of structures."""
        return len(self.ptr) - 1

    @property
    def n_atoms(self) -> int:
        """Atoms of all structures together."""
        return len(self.atomic_number)

    @cached_property
    def structure_idx(self) -> Tensor:
        """(n_atoms,) structure of each atom."""
        return torch.repeat_interleave(self.ptr.diff()).to(self.atomic_number.device)

    def to(self, device: torch.device | str) -> Self:
        """The same graph on a device."""
        tables = {k: v.to(device) for k, v in vars(self).items() if k in _TABLES and v is not None}
        return replace(self, **tables)

    def mean(self, x: Tensor) -> Tensor:
        """(n_graphs, n_features) means of atom features (n_atoms, n_features) over each structure."""
        if self.share is None:
            n_atoms = torch.bincount(self.structure_idx, minlength=self.n_graphs)[:, None]
            return x.new_zeros(self.n_graphs, x.shape[1]).index_add_(0, self.structure_idx, x) / n_atoms
        total = torch.zeros(self.n_graphs, x.shape[1], dtype=torch.float32, device=x.device)
        return total.index_add_(0, self.structure_idx, x.float() * self.share[:, None]).to(x.dtype)

    def to_pyg(self) -> Data:
        """The same graph for models built on torch-geometric.

        Returns:
            A ``Data`` with ``z`` (n_atoms,) and ``batch`` (n_atoms,), the structure of each atom. Edges go
            from neighbour to atom, where the weight is not zero: ``edge_index`` (2, n_edges), ``edge_length``
            (n_edges,) in angstrom, and ``edge_weight`` (n_edges,).
        """
        from torch_geometric.data import Data  # it takes as long to import as all else together

        atom, slot = self.weight.nonzero(as_tuple=True)
        return Data(
            z=self.atomic_number,
            edge_index=torch.stack([self.neighbour[atom, slot], atom]),
            edge_length=self.distance[atom, slot],
            edge_weight=self.weight[atom, slot],
            batch=self.structure_idx,
            num_nodes=self.n_atoms,
        )


def envelope(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Polynomial that is 1 at u = 0 and reaches 0 at u = 1 with two vanishing derivatives.

    Gasteiger et al., DimeNet (arXiv 2003.03123), equation 8 with p = 6.
    """
    u = np.clip(u, 0.0, 1.0)
    value: NDArray[np.float64] = np.maximum(1 - 28 * u**6 + 48 * u**7 - 21 * u**8, 0.0)
    return value


def neighbour_table(
    crystal: Crystal, config: GraphConfig
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Find each atom's K nearest neighbours over all periodic images.

    Args:
        crystal: The structure.
        config: K and the cutoff.

    Returns:
        Indices, distances (angstrom) and envelope weights, each (n_atoms, K). Rows with fewer than K
        neighbours inside the cutoff are filled with the atom itself at weight zero.
    """
    n, k, cutoff = crystal.n_atoms, config.n_neighbours, config.cutoff_angstrom
    coords = np.ascontiguousarray((crystal.frac_coords % 1.0) @ crystal.cell, dtype=np.float64)
    cell = np.ascontiguousarray(crystal.cell, dtype=np.float64)
    centre, other, _, distance = find_points_in_spheres(
        coords, coords, r=cutoff, pbc=np.ones(3, dtype=np.int64), lattice=cell, tol=_COINCIDENT_ANGSTROM
    )
    real = distance > _COINCIDENT_ANGSTROM
    centre, other, distance = centre[real], other[real], distance[real]
    # One key sorts by atom, then by distance, several times as fast as two.
    order = np.argsort(centre * (2 * cutoff) + distance, kind="stable")
    centre, other, distance = centre[order], other[order], distance[order]
    rank = np.arange(len(centre)) - np.searchsorted(centre, np.arange(n))[centre]

    reach = np.full(n, cutoff)
    beyond = rank == k
    reach[centre[beyond]] = distance[beyond]
    keep = rank < k
    slot = (centre[keep], rank[keep])
    index = np.repeat(np.arange(n, dtype=np.int64)[:, None], k, axis=1)
    index[slot] = other[keep]
    far = np.full((n, k), cutoff)
    far[slot] = distance[keep]
    weight = np.zeros((n, k))
    weight[slot] = envelope(distance[keep] / reach[centre[keep]])
    return index, far.astype(np.float32), weight.astype(np.float32)


def crystal_graph(crystal: Crystal, config: GraphConfig) -> CrystalGraph:
    """Turn a crystal into its graph.

    Args:
        crystal: The structure.
        config: K and the cutoff.

    Returns:
        The graph, its tensors on the CPU.
    """
    index, distance, weight = neighbour_table(crystal, config)
    return CrystalGraph(
        ptr=torch.tensor([0, crystal.n_atoms]),
        atomic_number=torch.from_numpy(crystal.atomic_numbers.astype(np.int64)),
        neighbour=torch.from_numpy(index),
        distance=torch.from_numpy(distance),
        weight=torch.from_numpy(weight),
    )


def collate(graphs: Sequence[CrystalGraph]) -> CrystalGraph:
    """Put graphs side by side; ``share`` must be there in all or in none."""
    shares = [graph.share for graph in graphs if graph.share is not None]
    ptr = first_atoms(torch.cat([graph.ptr.diff() for graph in graphs]))
    before = first_atoms(torch.tensor([graph.n_atoms for graph in graphs])).tolist()
    return CrystalGraph(
        ptr=ptr,
        atomic_number=torch.cat([graph.atomic_number for graph in graphs]),
        neighbour=torch.cat([g.neighbour + n for g, n in zip(graphs, before[:-1], strict=True)]),
        distance=torch.cat([graph.distance for graph in graphs]),
        weight=torch.cat([graph.weight for graph in graphs]),
        share=torch.cat(shares) if shares else None,
    )


def first_atoms(n_atoms: Tensor) -> Tensor:
    """(n_graphs + 1,) first atom of each structure where they lie side by side, and the end."""
    return torch.cat([n_atoms.new_zeros(1), n_atoms.cumsum(0)])


def pack_by_atoms(n_atoms: Iterable[int], max_atoms: int) -> Iterator[list[int]]:
    """Cut a sequence of structures into batches of at most ``max_atoms`` atoms, order kept.

    Args:
        n_atoms: Atoms of each structure, in order.
        max_atoms: Bound on the atoms of a batch; a structure that is larger stands alone.

    Yields:
        Positions of the structures of each batch.
    """
    batch: list[int] = []
    filled = 0
    for position, n in enumerate(n_atoms):
        if batch and filled + n > max_atoms:
            yield batch
            batch, filled = [], 0
        batch.append(position)
        filled += n
    if batch:
        yield batch
