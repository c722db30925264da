"""Atoms that have equal surroundings, by symmetry or nearly so, and graphs with one atom for all of them.

A network that reads neighbour tables gives such atoms the same features, so that one of them is enough. That
halves the atoms of QMOF at a tolerance of 0.01 angstrom.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.crystals.graph import CrystalGraph, first_atoms
from mofgap.crystals.store import GraphStore

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

FADED = 2e-3
"""Neighbours of a smaller weight are not compared: which of several of them a table holds is chance."""


def distinct_store(store: GraphStore, tolerance_angstrom: float) -> tuple[GraphStore, Tensor]:
    """Graphs with one atom for all that `atom_classes` finds equal.

    Args:
        store: The graphs.
        tolerance_angstrom: See `atom_classes`.

    Returns:
        The smaller graphs, whose ``share`` says what each atom stands for; and (n_atoms_total,) which of
        their atoms stands for each atom.
    """
    classes = [atom_classes(store[i], tolerance_angstrom) for i in range(len(store))]
    n_distinct = torch.tensor([int(found.max()) + 1 for found in classes])
    ptr = first_atoms(n_distinct)
    index = torch.from_numpy(np.concatenate(classes)) + torch.repeat_interleave(ptr[:-1], store.n_atoms)
    # The first atom of each class stands for it.
    row = torch.full((int(ptr[-1]),), len(index)).scatter_reduce(0, index, torch.arange(len(index)), "amin")
    structure = torch.repeat_interleave(torch.arange(len(store)), n_distinct)
    neighbour = index[store.neighbour[row] + store.ptr[structure, None]] - ptr[structure, None]
    count = torch.bincount(index)
    smaller = replace(
        store,
        ptr=ptr,
        atomic_number=store.atomic_number[row],
        neighbour=neighbour.to(store.neighbour.dtype),
        distance=store.distance[row],
        weight=store.weight[row],
        share=(count / store.n_atoms[structure]).float(),
    )
    return smaller, index


def atom_classes(graph: CrystalGraph, tolerance_angstrom: float) -> Indices:
    """Classes of atoms with equal surroundings, as far as neighbour tables tell.

    Two atoms share a class if they are of one element and their neighbours are of the same classes. The
    sorted distances to the neighbours of each class must differ by less than the tolerance. Classes are
    split until no further split is needed, as in colour refinement (Weisfeiler and Leman, 1968).

    Args:
        graph: Of one structure.
        tolerance_angstrom: Of the distances.

    Returns:
        (n_atoms,) classes from 0.
    """
    faded = graph.weight.numpy() < FADED
    distance = np.where(faded, 0.0, graph.distance.numpy())
    neighbour = graph.neighbour.numpy()
    found = np.unique(graph.atomic_number.numpy(), return_inverse=True)[1]
    while True:
        around = np.where(faded, -1, found[neighbour])
        order = np.lexsort((distance, around), axis=1)
        kinds = np.concatenate([found[:, None], np.take_along_axis(around, order, 1)], axis=1)
        kind = np.unique(kinds, axis=0, return_inverse=True)[1].ravel()
        split = _split(kind, np.take_along_axis(distance, order, 1), tolerance_angstrom)
        if split.max() == found.max():
            return split
        found = split


def _split(kind: Indices, distances: Floats, tolerance_angstrom: float) -> Indices:
    """(n_atoms,) each ``kind`` divided where (n_atoms, K) distances differ from those of its first atom."""
    found = np.empty_like(kind)
    n_found = 0
    for group in range(int(kind.max()) + 1):
        left = np.flatnonzero(kind == group)
        while len(left):
            near = np.abs(distances[left] - distances[left[0]]).max(axis=1) < tolerance_angstrom
            near[0] = True
            found[left[near]] = n_found
            n_found += 1
            left = left[~near]
    return found
