"""Structures from the dictionaries that pymatgen, JARVIS and ASE write as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import ambiguous, deuterium, occupants
from mofgap.crystals.identifier import IDENTIFIERS
from mofgap.crystals.lattice import check_cell
from mofgap.crystals.reasons import StructureError, shown
from mofgap.crystals.unit_cell import check_size

_KEYS = ({"lattice", "sites"}, {"lattice_mat", "coords", "elements"}, {"cell", "numbers", "positions"})
"""What a dictionary of pymatgen, of JARVIS, and of ASE has."""


def made(
    cell: Any, frac_coords: Any, atomic_numbers: Any, structure_id: str, source: str, max_atoms: int
) -> Crystal:
    """A crystal from the numbers of a file.

    Args:
        cell: (3, 3) lattice vectors as rows, angstrom.
        frac_coords: (n_atoms, 3).
        atomic_numbers: (n_atoms,).
        structure_id: Its name.
        source: The file, and the place in it.
        max_atoms: Largest cell, in atoms, that is accepted.

    Raises:
        StructureError: If the numbers make no possible crystal, or one with more than ``max_atoms`` atoms.
    """
    try:
        lattice = np.array(cell, dtype=np.float64).reshape(3, 3)
        frac = np.array(frac_coords, dtype=np.float64).reshape(-1, 3)
        numbers = np.array(atomic_numbers, dtype=np.int64).reshape(-1)
    except (TypeError, ValueError, OverflowError) as error:
        what = "cell, positions or elements are no numbers, or too few"
        raise StructureError(f"bad-structure: {what}; write it again") from error
    if not len(numbers) or len(numbers) != len(frac):
        raise StructureError(
            f"bad-structure: {len(numbers)} elements and {len(frac)} positions; give one of each an atom"
        )
    if not np.isfinite(frac).all():
        raise StructureError("bad-structure: a coordinate is no number; correct it")
    if numbers.min() < 1 or numbers.max() > 118:
        raise StructureError("unknown-element: an atom is of no element; correct it, or leave it out")
    check_cell(lattice)
    check_size(len(numbers), max_atoms)
    return Crystal(lattice, frac, numbers, structure_id, source)


def is_structure(data: Any) -> bool:
    """Whether a value looks like a structure of pymatgen, JARVIS or ASE."""
    if isinstance(data, str):
        return data.lstrip()[:1] == "{" and ('"lattice"' in data or '"lattice_mat"' in data)
    return isinstance(data, Mapping) and any(keys <= data.keys() for keys in _KEYS)


def structures_in(row: Mapping[str, Any]) -> list[str]:
    """The names under which an object keeps structures."""
    return [name for name, value in row.items() if is_structure(value)]


def identifier_in(row: Mapping[str, Any]) -> str | None:
    """The first of `IDENTIFIERS` that an object has a value of."""
    return next((name for name in IDENTIFIERS if row.get(name) is not None), None)


def as_object(data: Any) -> Mapping[str, Any]:
    """A structure as an object, which may be given as a text of JSON.

    Raises:
        StructureError: If ``data`` is no structure of pymatgen, JARVIS or ASE.
    """
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except ValueError as error:
            raise StructureError("bad-structure: a text that is no JSON; write it again") from error
    if not isinstance(data, Mapping) or not is_structure(data):
        raise StructureError(
            "bad-structure: no structure of pymatgen (lattice, sites), of JARVIS (lattice_mat, coords, "
            "elements) or of ASE (cell, numbers, positions)"
        )
    return data


def crystal_of_dictionary(data: Any, structure_id: str, source: str, max_atoms: int) -> Crystal:
    """A structure as pymatgen, JARVIS or ASE write it, as an object or as a text of JSON.

    Raises:
        StructureError: If ``data`` is no structure of these programs, is disordered or damaged, or has more
            than ``max_atoms`` atoms.
    """
    data = as_object(data)
    read = _jarvis if "lattice_mat" in data else _pymatgen if "sites" in data else _ase
    try:
        cell, frac, elements = read(data)
        symbols = [] if read is _ase else list(dict.fromkeys(elements))
        known = {symbol: _element(symbol) for symbol in symbols}
    except StructureError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, np.linalg.LinAlgError) as error:
        missing = isinstance(error, KeyError)
        what = f"{error} is missing" if missing else "values of another kind or number than its format has"
        raise StructureError(f"bad-structure: a damaged structure ({what}); write it again") from error
    numbers = [known[symbol] for symbol in elements] if symbols else elements
    crystal = made(cell, frac, numbers, structure_id, source, max_atoms)
    return replace(crystal, warnings=(*ambiguous(symbols), *deuterium(symbols)))


def _pymatgen(data: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The cell, fractional coordinates, and symbols of elements."""
    sites = data["sites"]
    if any(len(site["species"]) != 1 or site["species"][0].get("occu", 1) != 1 for site in sites):
        raise StructureError(
            "partial-occupancy: the structure is disordered; choose one arrangement first, or write a CIF "
            "and take --disorder majority"
        )
    if not all(data["lattice"].get("pbc", ())):
        raise StructureError(_NOT_PERIODIC)
    symbols = [site["species"][0]["element"] for site in sites]
    return data["lattice"]["matrix"], [site["abc"] for site in sites], symbols


def _jarvis(data: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The cell, fractional coordinates, and symbols of elements."""
    cell, coords = data["lattice_mat"], data["coords"]
    if data.get("cartesian"):
        coords = _fractional(coords, cell)
    return cell, coords, list(data["elements"])


def _ase(data: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    """The cell, fractional coordinates, and atomic numbers."""
    cell = _array(data["cell"]).reshape(3, 3)
    if not np.all(_array(data.get("pbc", True))) or np.linalg.matrix_rank(cell) < 3:
        raise StructureError(_NOT_PERIODIC)
    return cell, _fractional(_array(data["positions"]), cell), _array(data["numbers"])


_NOT_PERIODIC = "no-cell: the atoms are not periodic in three directions; give a crystal with its unit cell"


def _fractional(positions: Any, cell: Any) -> Any:
    lattice = np.array(cell, dtype=np.float64).reshape(3, 3)
    return np.linalg.solve(lattice.T, np.array(positions, dtype=np.float64).reshape(-1, 3).T).T


def _array(value: Any) -> Any:
    """An array as ASE writes it to JSON: a list, or its shape, type and numbers."""
    while isinstance(value, Mapping):
        value = value["array"] if "array" in value else value["__ndarray__"][2]
    return np.array(value)


def _element(symbol: str) -> int:
    """The atomic number of an element symbol; charges such as in ``Zn2+`` are ignored.

    Raises:
        StructureError: If ``symbol`` is not the symbol of one element.
    """
    found = occupants(symbol)
    if len(found) != 1 or found[0][1] != 1.0:
        raise StructureError(
            f"unknown-element: {shown(symbol)!r} is no element; write one element for each atom"
        )
    return found[0][0]
