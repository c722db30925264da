"""Structures from (extended) XYZ files."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import numpy as np

from mofgap.crystals.ase_files import atoms_of, crystal_of_atoms
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dictionaries import identifier_in
from mofgap.crystals.elements import ambiguous, atomic_number, deuterium
from mofgap.crystals.formats import LONGEST_NAME
from mofgap.crystals.reasons import NUMBERS, StructureError, is_number, listed, shown
from mofgap.crystals.unit_cell import check_size

if TYPE_CHECKING:
    from ase import Atoms

# Of an atom, more than any program writes.
_MOST_COLUMNS = 1000
_LONGEST_LINE = 2**20
_LATTICE = re.compile(r"\blattice\s*=", re.IGNORECASE)
_CELL = re.compile(r"\bLattice=[\"'{\[]?([^\"'}\]]*)")
_PROPERTIES = re.compile(r"\bProperties\s*=")
_SPECIES = re.compile(r"\b(species|elements?|symbols?|type):S:1\b", re.IGNORECASE)
# ASE keeps a column that it does not know as it stands; it would read CO as Co in that of species.
_SYMBOLS = "mofgap_symbols"


def read_xyz(text: str, name: str, source: str, max_atoms: int, *, named: bool) -> Crystal:
    """The structure of one frame of an (extended) XYZ file.

    Args:
        text: The frame.
        name: Its name.
        source: Its file, and the place in it.
        max_atoms: Largest cell, in atoms, that is accepted.
        named: Whether an identifier among its properties replaces the name.

    Raises:
        StructureError: If ``text`` is no frame, has no cell, has too many atoms, or has an atom with an
            unknown element.
    """
    count, comment, atom_lines = text.split("\n", 2)
    check_size(int(count), max_atoms)
    if not _LATTICE.search(comment):
        raise StructureError("no-cell: no Lattice in the second line; write extended XYZ of the crystal")
    if len(comment) > _LONGEST_LINE:
        raise StructureError("bad-xyz: its second line has more than 1 MB; leave out what is not the cell")
    if sum(n for _, n in _columns(comment)) > _MOST_COLUMNS:
        raise StructureError(f"bad-xyz: more than {_MOST_COLUMNS} columns; leave out properties of the atoms")
    if not _PROPERTIES.search(comment):
        comment += " Properties=species:S:1:pos:R:3"
    comment = _LATTICE.sub("Lattice=", comment)
    if "species:S:1" not in comment and ":I:1" not in comment:
        comment = _SPECIES.sub("species:S:1", comment)
    comment = comment.replace("species:S:1", f"{_SYMBOLS}:S:1")
    try:
        atoms = atoms_of(f"{count}\n{comment}\n{atom_lines}", "extxyz", "bad-xyz")
    except StructureError as error:
        raise StructureError(_fault(comment, atom_lines) or str(error)) from error
    warnings = _set_elements(atoms)
    given = identifier_in(atoms.info) if named else None
    name = name if given is None else str(atoms.info[given])[:LONGEST_NAME]
    return replace(crystal_of_atoms(atoms, name, source, max_atoms), warnings=tuple(warnings))


def _fault(comment: str, atom_lines: str) -> str:
    """What is wrong with the cell or the columns of a frame that ASE does not read; empty if nothing."""
    cell = _CELL.search(comment)
    if cell is not None and not (len(words := cell[1].split()) == 9 and all(map(is_number, words))):
        return f"bad-xyz: Lattice ({shown(cell[1])}) is not nine numbers; write {NUMBERS}"
    if not (kinds := "".join(kind * n for kind, n in _columns(comment))):
        return "bad-xyz: Properties is damaged; write it as species:S:1:pos:R:3"
    for place, line in enumerate(atom_lines.splitlines(), start=1):
        words = line.split()
        if len(words) < len(kinds):
            return f"bad-xyz: atom {place} has {len(words)} columns, not {len(kinds)}; write it again"
        for kind, word in zip(kinds, words, strict=False):
            if kind in "RI" and not is_number(word):
                return f"bad-xyz: atom {place}: {shown(word)} is no number; write {NUMBERS}"
    return ""


def _columns(comment: str) -> list[tuple[str, int]]:
    """The kind and width of each property of an atom, as ASE reads them; none where a line is damaged."""
    from ase.io.extxyz import key_val_str_to_dict

    try:
        parts = key_val_str_to_dict(comment)["Properties"].split(":")
        return [(kind, max(int(n), 0)) for kind, n in zip(parts[1::3], parts[2::3], strict=False)]
    except Exception:  # as ASE's readers raise on a damaged file
        return []


def _set_elements(atoms: Atoms) -> list[str]:
    """Give atoms their elements by their symbols, unless they have numbers; warnings of what is not sure.

    Raises:
        StructureError: If a symbol is not the symbol of an element.
    """
    symbols = atoms.arrays.get(_SYMBOLS)
    if symbols is None:
        return []
    numbers, given = np.array([atomic_number(each.capitalize()) for each in symbols]), atoms.numbers
    if not given.any():
        if unknown := [f"atom {i + 1} ({symbols[i]})" for i in np.flatnonzero(numbers == 0)]:
            raise StructureError(
                f"unknown-element: {listed(unknown)} is no element; write symbols of elements"
            )
        atoms.numbers = numbers
        return [*ambiguous(symbols), *deuterium(symbols)]
    differing = np.flatnonzero((numbers > 0) & (numbers != given))
    differ = [f"atom {i + 1} ({symbols[i]}, {given[i]})" for i in differing]
    if not differ:
        return []
    return [f"ambiguous-element: columns species and Z differ for {listed(differ)}, read as Z; correct one"]


def frames(file: IO[bytes], most_bytes: int) -> Iterator[bytes]:
    """The frames of an XYZ file, one at a time.

    Raises:
        StructureError: If a frame does not begin with its number of atoms, ends early, or has more than
            ``most_bytes``.
    """
    for place in range(1, 2**63):
        line = file.readline(_LONGEST_LINE).removeprefix(codecs.BOM_UTF8)
        while line and not line.strip():
            line = file.readline(_LONGEST_LINE)
        if not line:
            return
        if not line.strip().isdigit():
            raise StructureError(
                f"bad-xyz: structure {place} does not begin with its number of atoms; write it again"
            )
        n_lines, size, lines = int(line.strip()[:18]) + 1, len(line), [line]
        while n_lines and size <= most_bytes and (line := file.readline(_LONGEST_LINE)):
            lines.append(line)
            size += len(line)
            n_lines -= line.endswith(b"\n")
        if size > most_bytes:
            raise StructureError(
                f"too-large: structure {place} has more than {most_bytes // 2**20} MB; leave it out"
            )
        is_cut = len(lines) == 1 or lines[-1].endswith(b"\n")
        if n_lines > 1 or (n_lines == 1 and is_cut):
            raise StructureError(f"bad-xyz: structure {place} ends before its last atom; write it again")
        yield b"".join(lines)
