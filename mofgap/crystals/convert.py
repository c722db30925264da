"""Crystals from and to the objects of pymatgen and ASE."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.disorder import FULL_OCCUPANCY

if TYPE_CHECKING:
    from ase import Atoms
    from pymatgen.core import Structure


def is_one(structures: object) -> bool:
    """Structures iterate over their atoms, a dict over its keys; a list or a generator over structures."""
    return isinstance(structures, str | Path | Crystal | Mapping) or any(
        hasattr(structures, name) for name in ("lattice", "get_cell")
    )


def _is_instance(obj: object, module: str, name: str) -> bool:
    """Whether an object is of a class, which can only be so if its module has been imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(obj, getattr(loaded, name))


def crystal_from(obj: Any, structure_id: str = "") -> Crystal:
    """A `Crystal` of a pymatgen ``Structure``, an ASE ``Atoms`` or a `Crystal`.

    Args:
        obj: The structure.
        structure_id: The name to give it; a `Crystal` keeps its own.

    Raises:
        TypeError: If ``obj`` is not a `Crystal`, a pymatgen ``Structure`` or an ASE ``Atoms``.
        ValueError: If ``obj`` is disordered, or is not periodic in three directions.
    """
    if isinstance(obj, Crystal):
        return obj
    if _is_instance(obj, "pymatgen.core.structure", "IStructure"):
        if not obj.is_ordered:
            raise ValueError(
                "partial-occupancy: the structure is disordered; choose one arrangement first, or read it "
                "from a CIF with disorder='majority'"
            )
        if not all(obj.lattice.pbc):
            raise ValueError("no-cell: the structure is not periodic in three directions; set pbc")
        cell, frac, numbers = obj.lattice.matrix, obj.frac_coords, [site.specie.Z for site in obj]
    elif _is_instance(obj, "ase", "Atoms"):
        if not obj.pbc.all() or obj.cell.rank < 3:
            raise ValueError("no-cell: the atoms are not periodic in three directions; set a cell and pbc")
        if not _is_ordered(obj):
            raise ValueError(
                "partial-occupancy: the atoms are disordered, says info['occupancy']; choose one arrangement "
                "first, and delete that entry"
            )
        cell, frac, numbers = obj.cell.array, obj.get_scaled_positions(wrap=False), obj.numbers
    else:
        raise TypeError(f"expected a Crystal, pymatgen Structure or ASE Atoms, not {type(obj).__name__}")
    return Crystal(
        np.array(cell, dtype=np.float64),
        np.array(frac, dtype=np.float64).reshape(-1, 3),
        np.array(numbers, dtype=np.int64),
        structure_id,
    )


def _is_ordered(atoms: Atoms) -> bool:
    """Whether every site that ASE read from a CIF is full; it lists one occupant of each."""
    shares = {str(kind): share for kind, share in atoms.info.get("occupancy", {}).items()}
    kinds = map(str, set(atoms.arrays.get("spacegroup_kinds", ())))
    return all(max(shares[kind].values()) >= FULL_OCCUPANCY for kind in kinds if kind in shares)


def to_pymatgen(crystal: Crystal) -> Structure:
    """The crystal as a pymatgen ``Structure``."""
    from pymatgen.core import Structure

    return Structure(crystal.cell, crystal.atomic_numbers.tolist(), crystal.frac_coords)


def to_ase(crystal: Crystal) -> Atoms:
    """The crystal as an ASE ``Atoms``."""
    from ase import Atoms

    return Atoms(
        numbers=crystal.atomic_numbers, scaled_positions=crystal.frac_coords, cell=crystal.cell, pbc=True
    )
