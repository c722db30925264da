"""One structure of a source with what the source says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dictionaries import as_object, crystal_of_dictionary, identifier_in, is_structure
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.reasons import StructureError


class DatasetError(ValueError):
    """A dataset, or a file of one, that cannot be used, and why."""


@dataclass(frozen=True, eq=False)
class Record:
    """A structure of a source, with its labels and texts.

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


def identifier(values: Mapping[str, Any], name: str | None, otherwise: str | None) -> Any:
    """The identifier under a name, or the first of `IDENTIFIERS` without one; another where it is missing."""
    name = identifier_in(values) if name is None else name
    given = None if name is None else values.get(name)
    return otherwise if given is None else given


def from_dictionary(data: Any, structure_id: str, source: str, max_atoms: int) -> Record:
    """A record of a structure as `crystal_of_dictionary` takes it, properties of its sites with it.

    Raises:
        StructureError: If ``data`` is no structure, or is damaged, disordered, or too large.
    """
    data = as_object(data)
    crystal = crystal_of_dictionary(data, structure_id, source, max_atoms)
    try:
        return Record(crystal, atoms=_site_properties(data.get("sites", ())))
    except (AttributeError, OverflowError, TypeError) as error:
        raise StructureError("bad-structure: properties of its sites are damaged; write it again") from error


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Numbers and texts of nested dictionaries, names joined by dots; structures and lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and not is_structure(value):
            flat |= flattened(value, f"{prefix}{key}.")
        elif value is None or (isinstance(value, str | int | float | bool) and not is_structure(value)):
            flat[f"{prefix}{key}"] = value
    return flat


def _site_properties(sites: Any) -> dict[str, NDArray[np.float32]]:
    """Quantities that every site has as a number."""
    atoms = {}
    properties = [site.get("properties") or {} for site in sites]
    for name in properties[0] if properties else ():
        column = [site.get(name) for site in properties]
        if all(isinstance(value, int | float) for value in column):
            atoms[name] = np.array(column, dtype=np.float32)
    return atoms
