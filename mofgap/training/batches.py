"""Batches for training: packed by atoms, in an order that depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from mofgap.crystals.graph import pack_by_atoms
from mofgap.crystals.store import GraphStore, StoreBatch


class PackedSampler(Sampler[list[int]]):
    """Batches of structures packed by atoms, in an order that depends on seed and epoch alone.

    Where several processes train together each takes its share of the shuffled batches; batches in the
    order given are for looking, and every process sees them all.

    Args:
        positions: Structures to draw from.
        n_atoms: Atoms of every structure of the store.
        max_atoms: Bound on the atoms of a batch.
        seed: Seed of the order; None keeps the order given.
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


class Batches(Dataset[StoreBatch]):
    """Batches of a store, selected by the positions of their structures."""

    def __init__(self, store: GraphStore) -> None:
        self.store = store

    def __getitem__(self, positions: list[int]) -> StoreBatch:
        """The structures at these positions."""
        return self.store.batch(positions)


def loader(
    store: GraphStore,
    positions: Sequence[int],
    batch_atoms: int,
    seed: int | None,
    n_atoms: Tensor | None = None,
) -> DataLoader[StoreBatch]:
    """Batches packed by atoms; shuffled from ``seed`` and the epoch, or in order where it is None.

    The atoms of a structure are ``n_atoms`` (n_structures,), by default those of its graph.
    """
    sampler = PackedSampler(positions, store.n_atoms if n_atoms is None else n_atoms, batch_atoms, seed)
    return DataLoader(Batches(store), sampler=sampler, batch_size=None)
