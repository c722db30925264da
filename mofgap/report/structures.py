"""The structures of a table's rows, read again for the 3D view."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import IS_METAL, bond_graph
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import symbol_of
from mofgap.crystals.entry import Entry
from mofgap.crystals.formula import reduced_formula
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.steps import DEFAULT_PREPARATION
from mofgap.screening.reread import Key, read_again

Offset = tuple[int, int, int]
Node = tuple[int, Offset]
"""An atom of the cell, and the cell it lies in."""

Content = tuple[str, int | None]
"""Formula of a row, and its number of atoms where the table says it."""

MAX_DRAWN = 1500
"""Atoms of a drawing, unless the cell alone has more."""

FEWEST_CORNERS = 4
"""Neighbours from which on a metal has a polyhedron."""

MAX_GROWTH = 7
"""A drawing has at most so many times the atoms of the cell: networks without metals would not end."""


@dataclass(frozen=True)
class Drawing:
    """The atoms and bonds that are drawn of a structure.

    Attributes:
        symbols: Elements of the atoms, n of them.
        positions: Their places in angstrom, (n, 3).
        bonds: Pairs of their indices, the smaller first.
        cell: The cell's vectors as rows, in angstrom, (3, 3).
        polyhedra: For each metal with four neighbours or more: its index, and the corners of each triangle of
            the hull of its neighbours.
    """

    symbols: list[str]
    positions: list[list[float]]
    bonds: list[tuple[int, int]]
    cell: list[list[float]]
    polyhedra: list[tuple[int, list[tuple[int, ...]]]] = field(default_factory=list)


def drawings_of(
    wanted: dict[Key, Content],
    folders: Sequence[Path],
    preparation: PreparationConfig = DEFAULT_PREPARATION,
) -> dict[Key, Drawing]:
    """Drawings, as the model read them, of those rows whose files are still there and unchanged.

    Args:
        wanted: Content of each row; what has another by now is left out.
        folders: Where relative names count from; the first that has the file is taken.
        preparation: How the structures were prepared.
    """
    files = (file for file, _ in wanted)
    return drawings_among(wanted, read_again(files, "majority", folders, preparation))


def drawings_among(wanted: dict[Key, Content], entries: Iterable[tuple[Key, Entry]]) -> dict[Key, Drawing]:
    """Drawings of the rows that are among these entries.

    Args:
        wanted: Content of each row; what has another by now is left out.
        entries: What files hold, by the names that a row has of it, see `mofgap.screening.reread.entries_of`.
    """
    found: dict[Key, Drawing] = {}
    for key, entry in entries:
        if isinstance(entry, Crystal) and key in wanted and _is_same(entry, *wanted[key]):
            found[key] = draw(entry)
    return found


def draw(crystal: Crystal) -> Drawing:
    """One cell, and what lies across its faces: the ends of its bonds, and the rest of its linkers."""
    neighbours = _neighbours(crystal)
    index = {node: i for i, node in enumerate(_with_linkers(crystal, neighbours))}
    atoms = np.array([atom for atom, _ in index], dtype=np.intp)
    offsets = np.array([offset for _, offset in index], dtype=np.float64)
    positions = (crystal.frac_coords[atoms] % 1.0 + offsets) @ crystal.cell
    bonds = [
        (i, index[end])
        for (atom, place), i in index.items()
        for end in _reach(neighbours[atom], place)
        if index.get(end, -1) > i
    ]
    symbols = [symbol_of(crystal.atomic_numbers[atom]) for atom in atoms]
    hulls = []
    for (atom, place), i in index.items():
        ends = _reach(neighbours[atom], place) if IS_METAL[crystal.atomic_numbers[atom]] else []
        # Half a polyhedron, of a metal at the end of a linker, would look like another coordination.
        if all(end in index for end in ends) and (faces := _hull(positions, [index[end] for end in ends])):
            hulls.append((i, faces))
    return Drawing(symbols, np.round(positions, 2).tolist(), bonds, np.round(crystal.cell, 3).tolist(), hulls)


def _hull(positions: NDArray[np.float64], corners: list[int]) -> list[tuple[int, ...]]:
    """Triangles of the convex hull of atoms; none for atoms too few, or all in a plane."""
    if len(corners) < FEWEST_CORNERS:
        return []
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(positions[corners])
    except QhullError:
        return []
    return [tuple(corners[i] for i in face) for face in hull.simplices.tolist()]


def _neighbours(crystal: Crystal) -> dict[int, list[Node]]:
    """Bonded atoms of each atom of the cell, and the cells they lie in."""
    pairs = bond_graph(crystal).bonds
    found: dict[int, list[Node]] = defaultdict(list)
    for first, second, offset in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.offsets, strict=True):
        found[first].append((second, _offset(offset)))
    return found


def _reach(neighbours: list[Node], place: Offset) -> list[Node]:
    """The neighbours of an atom that lies in another cell."""
    x, y, z = place
    return [(atom, (x + a, y + b, z + c)) for atom, (a, b, c) in neighbours]


def _with_linkers(crystal: Crystal, neighbours: dict[int, list[Node]]) -> list[Node]:
    """The cell's atoms, then what is bonded to them outside.

    Beyond the cell the search goes on from atoms that are no metals, so that it ends with whole linkers.
    """
    home = (0, 0, 0)
    queue: deque[Node] = deque((atom, home) for atom in range(crystal.n_atoms))
    found = dict.fromkeys(queue)
    most = min(MAX_DRAWN, MAX_GROWTH * crystal.n_atoms)
    while queue and len(found) < most:
        atom, place = queue.popleft()
        if place != home and IS_METAL[crystal.atomic_numbers[atom]]:
            continue
        for node in _reach(neighbours[atom], place):
            if node not in found:
                found[node] = None
                queue.append(node)
    return list(found)


def _offset(values: Iterable[float]) -> Offset:
    a, b, c = (round(value) for value in values)
    return a, b, c


def _is_same(crystal: Crystal, formula: str, n_atoms: int | None) -> bool:
    return n_atoms in (None, crystal.n_atoms) and reduced_formula(crystal.atomic_numbers) == formula
