"""The space groups that a CIF block states by Hall symbol, name and number."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache

import gemmi
import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from mofgap.crystals.reasons import shown
from mofgap.crystals.sites import NUMBER_TAGS

# Longer texts are no space group.
_LONGEST_NAME = 60
# An angle that differs less from 90 degrees is one of 90.
_RIGHT_DEGREES = 0.01
_NAME_TAGS = ("_space_group_name_H-M_alt", "_symmetry_space_group_name_H-M", "_space_group_name_H-M_full")
# ICSD's names of the first and the second choice of origin, as in F d -3 m Z.
_ORIGIN = re.compile(r"\s+([SZ])$")
# gemmi takes a lattice without a rotation, as in a truncated symbol, for P1.
_HALL = re.compile(
    r"-?[PABCIRSTFH][\s_]*-?[12346][^\s_]*([\s_]+-?[12346][^\s_]*)*([\s_]*\(.*\))?", re.IGNORECASE
)
# Short monoclinic names, such as P 21/n, do not say which axis is unique.
_MONOCLINIC = re.compile(r"([PABCI])\s*(21?(?:/[abcdmn])?|[abcdmn])", re.IGNORECASE)
_HALL_TAGS = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")


def _first_value(block: cif.Block, tags: tuple[str, ...]) -> str:
    return next(iter(_values(block, tags)), "")


def _values(block: cif.Block, tags: tuple[str, ...]) -> list[str]:
    """What a block gives for some tags, each text once."""
    values = [block.find_value(tag) for tag in tags]
    texts = [cif.as_string(value).strip() for value in values if value and value not in ("?", ".")]
    return list(dict.fromkeys(filter(None, texts)))


@dataclass(frozen=True, eq=False)
class Statement:
    """A space group that a block names: its operations, the words, its number, and if its setting is open.

    A group that only its number names may be in a setting that centres the cell otherwise.
    """

    group: gemmi.GroupOps
    words: str
    number: int | None
    open_setting: bool = False
    by_number: bool = False

    def has_as_many(self, ops: NDArray[np.float64]) -> bool:
        """Whether as many operations (n_ops, 3, 4) can be those of this group."""
        if not self.by_number:
            return len(self.group) == len(ops)
        n_rotations = len(np.unique(ops[:, :, :3].round(2), axis=0))
        return n_rotations == len(self.group.sym_ops) and len(ops) % len(self.group) == 0


def stated_groups(block: cif.Block, cell: gemmi.UnitCell) -> tuple[list[Statement], list[str]]:
    """The groups that Hall symbol, name and number state, the most reliable first, and unknown words."""
    found: list[Statement] = []
    unknown: list[str] = []
    if hall := _first_value(block, _HALL_TAGS):
        try:
            if len(hall) > _LONGEST_NAME or not _HALL.fullmatch(hall):
                raise ValueError("no Hall symbol")
            group = gemmi.symops_from_hall(hall.replace("_", " "))
            known = gemmi.find_spacegroup_by_ops(group)
            found.append(Statement(group, hall, known.number if known else None))
        except (ValueError, RuntimeError):
            unknown.append(f"Hall symbol {shown(hall)!r}")
    names = _values(block, _NAME_TAGS)
    named = [statement for name in names if (statement := _named(name, cell)) is not None]
    if names and not named:
        unknown.append(repr(shown(names[0])))
    found += named
    if number := _first_value(block, NUMBER_TAGS):
        # gemmi takes no more than a C int, and 0 for 1.
        usable = number.isdecimal() and len(number) <= 3 and int(number) > 0
        if usable and (numbered := gemmi.find_spacegroup_by_number(int(number))) is not None:
            found.append(_numbered(numbered, cell))
        else:
            unknown.append(f"number {shown(number)}")
    return found, unknown


def _named(name: str, cell: gemmi.UnitCell) -> Statement | None:
    """The group of a Hermann-Mauguin symbol, with axes as the cell has them; nothing if it is not known."""
    if len(name) > _LONGEST_NAME:
        return None
    plain = re.sub(r"\(#\d+\)$|[()_]", "", name)
    plain = _ORIGIN.sub(lambda match: ":1" if match[1] == "S" else ":2", plain)
    spellings = [plain]
    if short := _MONOCLINIC.fullmatch(plain):
        oblique = [abs(angle - 90) > _RIGHT_DEGREES for angle in (cell.alpha, cell.beta, cell.gamma)]
        if oblique.count(True) == 1 and not oblique[1]:
            places = ["1", "1", "1"]
            places[oblique.index(True)] = short[2]
            spellings.insert(0, " ".join([short[1], *places]))
    for spelling in spellings:
        if (group := gemmi.find_spacegroup_by_name(spelling, cell.alpha, cell.gamma, "2")) is not None:
            # A bare name with two choices of origin is read with the centre of symmetry at the origin.
            open_setting = group.ext in ("1", "2") and ":" not in plain
            return Statement(group.operations(), name, group.number, open_setting)
    return None


@cache
def _n_settings() -> Counter[int]:
    """How many settings are known of the group of each number."""
    return Counter(group.number for group in gemmi.spacegroup_table())


def _numbered(standard: gemmi.SpaceGroup, cell: gemmi.UnitCell) -> Statement:
    """The group of a number, in the setting that its name has, with axes as the cell has them."""
    group = gemmi.find_spacegroup_by_name(standard.hm, cell.alpha, cell.gamma, "2") or standard
    # Of P1 and P-1 settings are other cells alone, and the cell tells H from R.
    open_setting = group.number > 2 and _n_settings()[group.number] > 1 and group.ext not in ("H", "R")
    return Statement(group.operations(), f"number {group.number}", group.number, open_setting, True)


def contradictions(stated: list[Statement]) -> list[str]:
    """A warning of names of different space groups, or nothing."""
    numbered = [each for each in stated if each.number is not None]
    other = next((each for each in numbered if each.number != numbered[0].number), None)
    if other is None:
        return []
    words = f"{numbered[0].words} and {other.words}"
    return [f"symmetry-disagreement: the file names two space groups, {words}; correct one"]
