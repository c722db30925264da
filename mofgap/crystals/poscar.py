"""Structures from POSCAR and CONTCAR files of VASP."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import zip_longest

from mofgap.counts import counted
from mofgap.crystals.ase_files import atoms_of, crystal_of_atoms
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import ambiguous, atomic_number, deuterium, symbol_of
from mofgap.crystals.reasons import NUMBERS, StructureError, is_number, shown
from mofgap.crystals.unit_cell import check_size

_THREE_NUMBERS = re.compile(r"\s*(?:[-+]?\.?\d\S*(?:\s+|$)){3}")
"""How a line with the place of an atom begins."""

_NEXT_FRAME = re.compile(r"\s*direct configuration\s*=", re.IGNORECASE)
"""How VASP begins each structure of an XDATCAR."""


def read_poscar(text: str, name: str, source: str, max_atoms: int) -> Crystal:
    """The structure of a POSCAR or CONTCAR.

    Raises:
        StructureError: If ``text`` is no POSCAR, names no elements, or has too many atoms.
    """
    lines = text.splitlines()
    if len(lines) < 8:
        raise StructureError("bad-poscar: it ends before its atoms; write it again")
    symbols = [re.split(r"[_/.]", word)[0] for word in re.split("[!#]", lines[5])[0].split()]
    is_vasp4 = bool(symbols) and all(word.isdecimal() for word in symbols)
    counts = lines[5 if is_vasp4 else 6].split()
    if is_vasp4:  # the comment may name the elements, as Zn O or as Zn4 O13
        words = lines[0].split()
        symbols = [word.removesuffix(n) for word, n in zip_longest(words, counts[: len(words)], fillvalue="")]
    numbers = [atomic_number(each) for each in symbols]
    if not numbers or not all(numbers) or not all(word.isdecimal() for word in counts[: len(symbols)]):
        raise StructureError("bad-poscar: no line of element symbols above their numbers; add it as line 6")
    counts = counts[: len(symbols)]
    n_atoms = sum(int(word[:9]) for word in counts)
    check_size(n_atoms, max_atoms)
    mode = 6 if is_vasp4 else 7
    mode += lines[mode].lstrip()[:1] in ("s", "S")  # selective dynamics
    end = mode + n_atoms + 1
    is_followed = any(map(_THREE_NUMBERS.match, lines[end : end + 1]))
    if len(symbols) != len(counts) or end > len(lines) or is_followed:
        raise StructureError("bad-poscar: its numbers of atoms do not fit its lines; write it again")
    if any(map(_NEXT_FRAME.match, lines[end:])):
        raise StructureError("bad-poscar: a trajectory of several structures; give each in a file of its own")
    _check_numbers(lines, 1, 1)
    for place in (2, 3, 4, *range(mode + 1, end)):
        _check_numbers(lines, place, 3)
    # ASE reads neither ZN nor the suffix of a potential, and velocities behind the atoms confuse it.
    lines[0 if is_vasp4 else 5] = " ".join(map(symbol_of, numbers))
    atoms = atoms_of("\n".join(lines[:end]) + "\n", "vasp", "bad-poscar")
    crystal = crystal_of_atoms(atoms, name, source, max_atoms)
    return replace(crystal, warnings=(*ambiguous(symbols), *deuterium(symbols)))


def _check_numbers(lines: list[str], place: int, n: int) -> None:
    """Refuse a line that does not begin with ``n`` numbers.

    Raises:
        StructureError: If the line at ``place`` has fewer, or Fortran's 1.0D+00.
    """
    words = lines[place].split()[:n]
    if len(words) < n or not all(map(is_number, words)):
        what = f"line {place + 1} ({shown(lines[place].strip())}) does not begin with {counted(n, 'number')}"
        raise StructureError(f"bad-poscar: {what}; write {NUMBERS}")
