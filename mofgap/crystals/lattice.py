"""The lattice of a crystal: the vectors of its cell, and which no crystal can have."""

from __future__ import annotations

import math

import gemmi
import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.reasons import StructureError

# Far outside what any crystal has, near enough to keep neighbour searches cheap.
THINNEST_CELL_ANGSTROM = 0.5
LONGEST_EDGE_ANGSTROM = 1000.0


def cell_of(structure: gemmi.SmallStructure) -> NDArray[np.float64]:
    """(3, 3) lattice vectors as rows, in angstrom.

    Raises:
        StructureError: If the cell is missing, or no crystal can have its lengths and angles.
    """
    cell = structure.cell
    if not cell.is_crystal():
        raise StructureError(
            "no-cell: a length or an angle of the cell is missing, unknown or zero; give _cell_length_a, _b "
            "and _c, and _cell_angle_alpha, _beta and _gamma"
        )
    matrix = np.array(cell.orth.mat.tolist(), dtype=np.float64).T
    # Negative lengths and angles beyond 180 degrees would give a sound matrix.
    if min(cell.parameters) <= 0 or max(cell.alpha, cell.beta, cell.gamma) >= 180:
        matrix[:] = np.nan
    check_cell(matrix)
    return np.ascontiguousarray(matrix)


def check_cell(cell: NDArray[np.float64]) -> None:
    """Refuse a cell that no crystal can have.

    Raises:
        StructureError: If the cell has no volume, an edge that is too long, or two faces that are too close
            together.
    """
    a, b, c = cell.tolist()
    faces = [_cross(b, c), _cross(c, a), _cross(a, b)]
    longest = max(math.hypot(*edge) for edge in (a, b, c))
    largest = max(math.hypot(*face) for face in faces)
    volume = volume_of(cell)
    thinnest = volume / largest if largest > 0 else math.nan
    if not math.isfinite(thinnest):
        raise StructureError(
            "bad-cell: no cell has these lengths and angles; correct them, with decimal points"
        )
    if not (thinnest > THINNEST_CELL_ANGSTROM and longest < LONGEST_EDGE_ANGSTROM):
        raise StructureError(
            f"bad-cell: longest edge {longest:.3g} Å, nearest faces {thinnest:.3g} Å apart; "
            "correct the cell lengths and angles"
        )


def volume_of(cell: NDArray[np.float64]) -> float:
    """Volume of a cell in cubic angstrom."""
    # Plain numbers: a file may hold tens of thousands of cells, and arrays of three are slow.
    a, b, c = cell.tolist()
    x, y, z = _cross(b, c)
    return float(abs(a[0] * x + a[1] * y + a[2] * z))


def _cross(a: list[float], b: list[float]) -> tuple[float, float, float]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
