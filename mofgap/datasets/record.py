"""One structure of a source with what the source says of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.cif import ReadFailure
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.sites import CifError, check_cell
from mofgap.crystals.unit_cell import check_size
from mofgap.crystals.write import formula_sum


class DatasetError(ValueError):
    """A dataset, or a file of one, that cannot be used, and why."""


@dataclass(frozen=True, eq=False)
class Record:
    """A structure of a source.

    Attributes:
        crystal: Its ``structure_id`` is the source's identifier.
        values: What the source says of it, by name: numbers and texts, nested names joined by dots.
        atoms: (n_atoms,) quantities of each atom, by name.
        numbered: The source gives no identifier, so that it is named by its place.
    """

    crystal: Crystal
    values: Mapping[str, Any] = field(default_factory=dict)
    atoms: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    numbered: bool = False


Records = Iterator[Record | ReadFailure]


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
        CifError: The numbers make no possible crystal, or one with more than ``max_atoms`` atoms.
    """
    try:
        lattice = np.array(cell, dtype=np.float64).reshape(3, 3)
        frac = np.array(frac_coords, dtype=np.float64).reshape(-1, 3)
        numbers = np.array(atomic_numbers, dtype=np.int64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise CifError(f"bad-structure: {error}") from error
    if not len(numbers) or len(numbers) != len(frac):
        raise CifError(f"bad-structure: {len(numbers)} elements and {len(frac)} positions")
    if not np.isfinite(frac).all():
        raise CifError("bad-structure: a coordinate is no number")
    if numbers.min() < 1 or numbers.max() > 118:
        raise CifError("unknown-element: an atom is of no element")
    check_cell(lattice)
    check_size(len(numbers), max_atoms)
    return Crystal(lattice, frac, numbers, structure_id, source)


def atomic_number(symbol: str) -> int:
    """The atomic number of an element symbol, charges such as in ``Zn2+`` left aside.

    Raises:
        CifError: The text ``symbol`` names no element.
    """
    letters = "".join(c for c in symbol if c.isalpha())
    number = int(gemmi.Element(letters).atomic_number)
    if not number:
        raise CifError(f"unknown-element: {symbol!r} is no element")
    return number


def from_pymatgen(data: Mapping[str, Any], structure_id: str, source: str, max_atoms: int) -> Record:
    """A record of the dictionary that pymatgen writes for a ``Structure``, properties of sites with it.

    Raises:
        CifError: The structure ``data`` is disordered, damaged, or has more than ``max_atoms`` atoms.
    """
    try:
        sites = data["sites"]
        if any(len(site["species"]) != 1 or site["species"][0].get("occu", 1) != 1 for site in sites):
            raise CifError("partial-occupancy: the structure is disordered; choose one arrangement first")
        numbers = [atomic_number(site["species"][0]["element"]) for site in sites]
        frac, cell = [site["abc"] for site in sites], data["lattice"]["matrix"]
        properties = [site.get("properties") or {} for site in sites]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise CifError(
            f"bad-structure: no structure of pymatgen ({type(error).__name__}: {error})"
        ) from error
    crystal = made(cell, frac, numbers, structure_id, source, max_atoms)
    return Record(crystal, atoms=_site_properties(properties))


def from_jarvis(data: Mapping[str, Any], structure_id: str, source: str, max_atoms: int) -> Record:
    """A record of the dictionary that JARVIS writes for its ``Atoms``.

    Raises:
        CifError: The structure ``data`` is damaged, or has more than ``max_atoms`` atoms.
    """
    try:
        cell, coords = data["lattice_mat"], data["coords"]
        numbers = [atomic_number(symbol) for symbol in data["elements"]]
        if data.get("cartesian"):
            coords = np.linalg.solve(np.array(cell, dtype=np.float64).T, np.array(coords).T).T
    except CifError:
        raise
    except (KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise CifError(f"bad-structure: no atoms of JARVIS ({type(error).__name__}: {error})") from error
    return Record(made(cell, coords, numbers, structure_id, source, max_atoms))


def from_dictionary(data: Any, structure_id: str, source: str, max_atoms: int) -> Record:
    """A record of a structure as pymatgen or JARVIS write it, as an object or as a text of JSON.

    Raises:
        CifError: The object ``data`` is not a structure of pymatgen or JARVIS, or is damaged.
    """
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except ValueError as error:
            raise CifError("bad-structure: a text that is no JSON") from error
    if not is_structure(data):
        raise CifError("bad-structure: neither lattice and sites nor lattice_mat, coords and elements")
    build = from_jarvis if "lattice_mat" in data else from_pymatgen
    return build(data, structure_id, source, max_atoms)


def is_structure(data: Any) -> bool:
    """Whether a value looks like a structure of pymatgen or JARVIS."""
    if isinstance(data, str):
        return data.lstrip()[:1] == "{" and ('"lattice"' in data or '"lattice_mat"' in data)
    return isinstance(data, Mapping) and (
        {"lattice", "sites"} <= data.keys() or {"lattice_mat", "coords", "elements"} <= data.keys()
    )


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Numbers and texts of nested dictionaries, names joined by dots; structures and lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and not is_structure(value):
            flat |= flattened(value, f"{prefix}{key}.")
        elif value is None or (isinstance(value, str | int | float | bool) and not is_structure(value)):
            flat[f"{prefix}{key}"] = value
    return flat


def reduced_formula(atomic_numbers: NDArray[np.int64]) -> str:
    """The empirical formula in Hill order, such as ``C8H4O5Zr``."""
    found = np.bincount(atomic_numbers)
    divisor = reduce(gcd, found[found > 0].tolist())
    return formula_sum(np.repeat(np.arange(len(found)), found // divisor)).replace(" ", "")


def _site_properties(properties: list[Mapping[str, Any]]) -> dict[str, NDArray[np.float32]]:
    """Quantities that every site has as a number."""
    atoms = {}
    for name in properties[0] if properties else ():
        column = [site.get(name) for site in properties]
        if all(isinstance(value, int | float) for value in column):
            atoms[name] = np.array(column, dtype=np.float32)
    return atoms
