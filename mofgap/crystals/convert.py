"""Crystals from and to the objects of pymatgen and ASE."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.reasons import StructureError, listed
from mofgap.crystals.sites import FULL_OCCUPANCY

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


def check_full(occupancy: Any, kinds: Any = None) -> None:
    """Refuse atoms of ASE with a site that is not full, of which ASE lists one occupant alone.

    Args:
        occupancy: Their ``info['occupancy']``: the share of each element, by the kind of a site.
        kinds: (n_atoms,) the kind of each atom's site; by default any.

    Raises:
        StructureError: If a site is not full.
    """
    if not isinstance(occupancy, Mapping):
        return
    there = None if kinds is None else set(map(str, kinds))
    shares = [each for kind, each in occupancy.items() if there is None or str(kind) in there]
    sites = [each.values() for each in shares if isinstance(each, Mapping)]
    known = [[share for share in site if isinstance(share, int | float)] for site in sites]
    if any(max(values) < FULL_OCCUPANCY for values in known if values):
        raise StructureError(
            "partial-occupancy: the atoms are disordered, says info['occupancy']; choose one arrangement "
            "first, and delete that entry"
        )


def crystal_from(obj: Any, structure_id: str = "") -> Crystal:
    """A `Crystal` of a pymatgen ``Structure``, an ASE ``Atoms`` or a `Crystal`.

    Args:
        obj: The structure.
        structure_id: The name to give it; a `Crystal` keeps its own.

    Raises:
        TypeError: If ``obj`` is not a `Crystal`, a pymatgen ``Structure`` or an ASE ``Atoms``.
        ValueError: If ``obj`` is disordered, is not periodic in three directions, or has a dummy species.
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
        dummy = ("pymatgen.core.periodic_table", "DummySpecies")
        if dummies := [str(each) for each in obj.species if _is_instance(each, *dummy)]:
            raise ValueError(f"unknown-element: {listed(dummies)} is no element; replace or remove the sites")
        cell, frac, numbers = obj.lattice.matrix, obj.frac_coords, [site.specie.Z for site in obj]
    elif _is_instance(obj, "ase", "Atoms"):
        if not obj.pbc.all() or obj.cell.rank < 3:
            raise ValueError("no-cell: the atoms are not periodic in three directions; set a cell and pbc")
        check_full(obj.info.get("occupancy"), obj.arrays.get("spacegroup_kinds"))
        cell, frac, numbers = obj.cell.array, obj.get_scaled_positions(wrap=False), obj.numbers
    else:
        raise TypeError(f"expected a Crystal, pymatgen Structure or ASE Atoms, not {type(obj).__name__}")
    return Crystal(
        np.array(cell, dtype=np.float64),
        np.array(frac, dtype=np.float64).reshape(-1, 3),
        np.array(numbers, dtype=np.int64),
        structure_id,
    )


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
