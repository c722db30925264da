"""A periodic structure as plain arrays: what the readers produce and the graph consumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY = "memory"
"""Source of a structure that comes from no file."""


@dataclass(frozen=True, eq=False)
class Crystal:
    """One periodic structure.

    Attributes:
        cell: (3, 3) lattice vectors a, b, c as rows, in angstrom.
        frac_coords: (n_atoms, 3) fractional coordinates, which may lie outside 0 to 1.
        atomic_numbers: (n_atoms,) atomic numbers.
        structure_id: The name it goes by: the CIF's data block, or the file's stem.
        source: Where it came from: a path, an archive member, or ``memory``.
        warnings: ``name: explanation`` strings gathered on the way.
        experimental: 1 if the geometry is that of an experiment, 0 if DFT has relaxed it. In between if a
            bond to hydrogen is hardly too short for DFT.
    """

    cell: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    atomic_numbers: NDArray[np.int64]
    structure_id: str = ""
    source: str = MEMORY
    warnings: tuple[str, ...] = ()
    experimental: float = 0.0

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """Its values in a table of structures, by column: cell, numbers and coordinates in one dimension."""
        return {
            "cell_angstrom": self.cell.ravel(),
            "atomic_numbers": self.atomic_numbers,
            "frac_coords": self.frac_coords.ravel(),
        }

    @property
    def content(self) -> bytes:
        """Its cell, coordinates and numbers, for digests."""
        return self.cell.tobytes() + self.frac_coords.tobytes() + self.atomic_numbers.tobytes()

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell."""
        return len(self.atomic_numbers)

    @property
    def cart_coords(self) -> NDArray[np.float64]:
        """(n_atoms, 3) Cartesian coordinates in angstrom."""
        return self.frac_coords @ self.cell

    @property
    def volume(self) -> float:
        """Cell volume in cubic angstrom."""
        return float(abs(np.linalg.det(self.cell)))
