"""Atoms that have equal surroundings, by symmetry or nearly so, and graphs with one atom for all of them.

A network that reads neighbour tables gives such atoms the same features, so that one of them is enough. That
spares two of five atoms of QMOF at a tolerance of 0.0005 angstrom.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.compiled import compiled
from mofgap.crystals.graph import CrystalGraph
from mofgap.crystals.store import GraphStore, store_of

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

TOLERANCE_ANGSTROM = 5e-4
"""Of distances, in a prediction and in training. A gap moves by less than 0.003 eV."""

FADED = 2e-3
"""Neighbours of a smaller weight are not compared: which of several of them a table holds is chance."""


def distinct_store(store: GraphStore, tolerance_angstrom: float) -> tuple[GraphStore, Tensor]:
    """Graphs with one atom for all that `atom_classes` finds equal.

    Args:
        store: The graphs.
        tolerance_angstrom: See `atom_classes`.

    Returns:
        The smaller graphs, and (n_atoms_total,) which of their atoms stands for each atom.
    """
    graphs, indices, n_before = [], [], 0
    for i in range(len(store)):
        graph, index = distinct_graph(store[i], tolerance_angstrom)
        graphs.append(graph)
        indices.append(index + n_before)
        n_before += graph.n_atoms
    return store_of(graphs), torch.cat(indices)


def distinct_graph(graph: CrystalGraph, tolerance_angstrom: float) -> tuple[CrystalGraph, Tensor]:
    """A graph with one atom for all that `atom_classes` finds equal; its ``share`` says how many those are.

    Its distances and weights are means over these atoms. So a gap does not jump where an atom joins them.

    Args:
        graph: Of one structure.
        tolerance_angstrom: See `atom_classes`.

    Returns:
        The smaller graph, and (n_atoms,) which of its atoms stands for each atom.
    """
    index, order = atom_classes(graph, tolerance_angstrom)
    # The first atom of each class stands for it.
    row, count = np.unique(index, return_index=True, return_counts=True)[1:]
    own = torch.from_numpy(order[row])

    def mean(table: Tensor) -> Tensor:
        total = table.new_zeros(len(row), order.shape[1])
        total.index_add_(0, torch.from_numpy(index), table.gather(1, torch.from_numpy(order)))
        return total / torch.from_numpy(count)[:, None]

    smaller = replace(
        graph,
        ptr=torch.tensor([0, len(row)]),
        atomic_number=graph.atomic_number[row],
        neighbour=torch.from_numpy(index)[graph.neighbour[row].gather(1, own)],
        distance=mean(graph.distance),
        weight=mean(graph.weight),
        share=torch.from_numpy(count / len(index)).float(),
    )
    return smaller, torch.from_numpy(index)


def without_repeats(graph: CrystalGraph) -> CrystalGraph:
    """The graph of a structure as it is computed: with one atom for all that symmetry makes equal."""
    return distinct_graph(graph, TOLERANCE_ANGSTROM)[0]


def atom_classes(graph: CrystalGraph, tolerance_angstrom: float) -> tuple[Indices, Indices]:
    """Classes of atoms with equal surroundings, as far as neighbour tables tell.

    Two atoms share a class if they are of one element and their neighbours are of the same classes. The
    sorted distances to the neighbours of each class must differ by less than the tolerance. So must their
    weights, but for `FADED`, since these tell of an atom behind the last neighbour. Classes are split until
    no further split is needed, as in colour refinement (Weisfeiler and Leman, 1968).

    Args:
        graph: Of one structure.
        tolerance_angstrom: Of the distances.

    Returns:
        (n_atoms,) classes from 0, in the order of their first atoms, and (n_atoms, K) places of the
        neighbours in each row of the table, sorted by class and distance: so atoms of a class match.
    """
    weight = graph.weight.numpy()
    faded = weight < FADED
    neighbour = np.where(faded, -1, graph.neighbour.numpy())
    distance = np.where(faded, np.float32(0), graph.distance.numpy())
    found = np.unique(graph.atomic_number.numpy(), return_inverse=True)[1].astype(np.int64)
    order = np.zeros_like(neighbour)
    n_found = -1
    while (n_classes := found.max() + 1) > n_found:
        n_found = n_classes
        found = _split(found, neighbour, distance, weight, np.float32(tolerance_angstrom), order)
    return found, order


@compiled
def _split(
    found: Indices,
    neighbour: Indices,
    distance: Floats,
    weight: Floats,
    tolerance: np.float32,
    order: Indices,
) -> Indices:
    """(n_atoms,) classes, each divided where neighbours, distances or weights differ from its first atom's.

    Args:
        found: (n_atoms,) classes to divide.
        neighbour: (n_atoms, K) indices; -1 for one that does not count.
        distance: (n_atoms, K) angstrom; 0 for one that does not count.
        weight: (n_atoms, K) in 0..1.
        tolerance: Of the distances, angstrom; a weight changes by less than this number with them.
        order: (n_atoms, K) gets the places of the neighbours, sorted by class and distance.
    """
    n, k = neighbour.shape
    kinds, lengths = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    for i in range(n):  # sort the neighbours of each atom by class, then by distance
        for s in range(k):
            other, length = neighbour[i, s], distance[i, s]
            kind = found[other] if other >= 0 else -1
            place = s
            while place > 0 and (
                kinds[i, place - 1] > kind or (kinds[i, place - 1] == kind and lengths[i, place - 1] > length)
            ):
                kinds[i, place], lengths[i, place] = kinds[i, place - 1], lengths[i, place - 1]
                order[i, place] = order[i, place - 1]
                place -= 1
            kinds[i, place], lengths[i, place], order[i, place] = kind, length, s
    result, first, n_classes = np.empty(n, np.int64), np.empty(n, np.int64), 0
    for i in range(n):
        result[i] = -1
        for c in range(n_classes):
            j = first[c]
            same = found[i] == found[j]
            for s in range(k):
                if not same:
                    break
                same = kinds[i, s] == kinds[j, s] and abs(lengths[i, s] - lengths[j, s]) < tolerance
                same = same and abs(weight[i, order[i, s]] - weight[j, order[j, s]]) < FADED + tolerance
            if same:
                result[i] = c
                break
        if result[i] < 0:
            result[i], first[n_classes] = n_classes, i
            n_classes += 1
    return result
