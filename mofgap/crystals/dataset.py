"""Labelled crystals: tables read from parquet or from CIFs, their graphs cached on disk, and batches.

The graphs of a table live in flat arrays, one row an atom, with ``start`` saying where each structure
begins. They are written once as safetensors, named by the hash of everything that shaped them, and
mapped into memory from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed
from torch.utils.data import Sampler
from torch_geometric.data import Batch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import CrystalGraph, GraphConfig, neighbour_table, pack_by_atoms
from mofgap.whole_file import whole_file

CACHE_VERSION = 1
ID_COLUMNS = ("structure_id", "qmof_id")
STRUCTURE_COLUMNS = ("cell_angstrom", "atomic_numbers", "frac_coords")


class TableError(ValueError):
    """A table of structures that cannot be used, and why."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While open, a table that cannot be read is a `TableError` with the file's name and the reason."""
    try:
        yield
    except FileNotFoundError as error:
        raise TableError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableError(f"{path}: {reason}") from error


def read_table(path: Path) -> pd.DataFrame:
    """Read a parquet table of structures.

    Args:
        path: A parquet file with the columns ``structure_id`` (or ``qmof_id``), ``cell_angstrom`` (9
            values, rows a, b, c), ``atomic_numbers`` (n), ``frac_coords`` (3 n) and any labels.

    Returns:
        The table, its identifiers as text in the column ``structure_id``.

    Raises:
        TableError: Naming the file, and the column that is missing or repeated or why it cannot be read.
    """
    with reading(path):
        frame = pd.read_parquet(path)
    id_column = next((name for name in ID_COLUMNS if name in frame.columns), None)
    if id_column is None:
        raise TableError(f"{path}: no identifier column; expected one of {', '.join(ID_COLUMNS)}")
    missing = [name for name in STRUCTURE_COLUMNS if name not in frame.columns]
    if missing:
        raise TableError(f"{path}: missing column(s) {', '.join(missing)}")
    frame = frame.rename(columns={id_column: "structure_id"})
    if nameless := int((frame.structure_id.isna() | (frame.structure_id == "")).sum()):
        raise TableError(f"{path}: {nameless} rows have no {id_column}")
    frame["structure_id"] = frame.structure_id.astype(str)
    repeated = frame.structure_id[frame.structure_id.duplicated()]
    if len(repeated):
        raise TableError(f"{path}: {len(repeated)} identifiers are repeated, the first is {repeated.iloc[0]}")
    return frame


def table_crystals(frame: pd.DataFrame) -> Iterator[Crystal]:
    """Yield the structures of a table in order."""
    columns = ["structure_id", *STRUCTURE_COLUMNS]
    return (crystal_of_row(*row) for row in frame[columns].itertuples(index=False))


def crystal_of_row(structure_id: Any, cell: Any, atomic_numbers: Any, frac_coords: Any) -> Crystal:
    """The structure of an identifier and the values of `STRUCTURE_COLUMNS`.

    Raises:
        ValueError: They have not the right number of values.
        TypeError: They are no numbers.
    """
    return Crystal(
        cell=np.asarray(cell, dtype=np.float64).reshape(3, 3),
        frac_coords=np.asarray(frac_coords, dtype=np.float64).reshape(-1, 3),
        atomic_numbers=np.asarray(atomic_numbers, dtype=np.int64),
        structure_id=str(structure_id),
    )


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


def cached_store(frame: pd.DataFrame, config: GraphConfig, cache: Path | None) -> GraphStore:
    """Graphs of a table, from the cache where they lie there already.

    Args:
        frame: A table as ``read_table`` gives it.
        config: K and the cutoff.
        cache: Folder of cached graphs, or None to keep nothing.
    """
    if cache is None:
        return build_store(table_crystals(frame), config)
    path = cache / f"graphs-{_fingerprint(frame, config)}.safetensors"
    if not path.exists():
        store = build_store(table_crystals(frame), config)
        with whole_file(path) as partial:
            save_file(vars(store), partial)
    return GraphStore(**load_file(path))


def _fingerprint(frame: pd.DataFrame, config: GraphConfig) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {sorted(asdict(config).items())}".encode())
    for crystal in table_crystals(frame):
        digest.update(
            crystal.cell.tobytes() + crystal.frac_coords.tobytes() + crystal.atomic_numbers.tobytes()
        )
    return digest.hexdigest()[:16]


class PackedSampler(Sampler[list[int]]):
    """Batches of structures packed by atoms, in an order that depends on seed and epoch alone.

    Where several processes train together each takes its share of the shuffled batches; batches in the
    order given are for looking, and every process sees them all.

    Args:
        positions: Structures to draw from.
        n_atoms: Atoms of every structure of the store.
        max_atoms: Bound on the atoms of a batch.
        seed: Of the order; None keeps the order given.
    """

    def __init__(self, positions: Sequence[int], n_atoms: Tensor, max_atoms: int, seed: int | None) -> None:
        self.positions = np.asarray(positions, dtype=np.int64)
        self.n_atoms = n_atoms.numpy()
        self.max_atoms = max_atoms
        self.seed = seed
        self.epoch = 0
        self.n_batches = len(self._packed(self.positions))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order; Lightning calls this before each epoch."""
        self.epoch = epoch

    def _packed(self, order: NDArray[np.int64]) -> list[list[int]]:
        return [order[p].tolist() for p in pack_by_atoms(self.n_atoms[order].tolist(), self.max_atoms)]

    def _share(self) -> tuple[int, int]:
        """Rank of this process, and the number of processes that share the batches."""
        alone = self.seed is None or not distributed.is_initialized()
        return (0, 1) if alone else (distributed.get_rank(), distributed.get_world_size())

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this epoch, always the same number.

        How many batches an order packs into varies by a few; Lightning validates at the end of an epoch only
        where it is as long as the first. So the last batches are left out, or the first come again.
        """
        order = self.positions
        if self.seed is not None:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(order)
        rank, size = self._share()
        yield from islice(cycle(self._packed(order)), rank, self.n_batches // size * size, size)

    def __len__(self) -> int:
        """Number of batches of an epoch."""
        return self.n_batches // self._share()[1]
