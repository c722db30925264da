"""The space groups that a CIF block states by Hall symbol, name and number."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import gemmi
import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from mofgap.crystals.block import NUMBER_TAGS
from mofgap.crystals.reasons import shown

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
# Full names give a rotation with each mirror or glide plane: P 21/n 21/m 21/a is P n m a.
_ROTATION_OF_FULL = re.compile(r"(?<=\s)21?/(?=[a-emn])")
_HALL_TAGS = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall")


def _values(block: cif.Block, tags: tuple[str, ...]) -> list[str]:
    """What a block gives for some tags, each text once."""
    values = [block.find_value(tag) for tag in tags]
    texts = [cif.as_string(value).strip() for value in values if value and value not in ("?", ".")]
    return list(dict.fromkeys(filter(None, texts)))


@dataclass(frozen=True, eq=False)
class Statement:
    """A space group that a block names.

    Attributes:
        group: Its operations.
        words: How the block names it.
        number: That of the space group; None if it has a setting that has no name.
        open_setting: Whether the words may also mean another setting.
        by_number: Whether its number alone names it.
    """

    group: gemmi.GroupOps
    words: str
    number: int | None
    open_setting: bool = False
    by_number: bool = False

    def may_have(self, ops: NDArray[np.float64]) -> bool:
        """Whether operations (n_ops, 3, 4) can be those of this group; of a number, in any setting."""
        if not self.by_number:
            return len(self.group) == len(ops)
        listed = gemmi.GroupOps([_op(each) for each in ops])
        if known := gemmi.find_spacegroup_by_ops(listed):
            return bool(known.number == self.number)
        # Some settings centre the cell otherwise and have no name, such as F -1.
        return len(listed.sym_ops) == len(self.group.sym_ops) and len(ops) % len(self.group) == 0

    def contradicts(self, other: Statement) -> bool:
        """Whether both cannot be meant: other space groups, or settings that are stated and differ."""
        if None in (self.number, other.number):
            return False
        if self.number != other.number:
            return True
        vague = self.by_number or other.by_number or self.open_setting or other.open_setting
        return not vague and _triplets(self.group) != _triplets(other.group)


def _op(operation: NDArray[np.float64]) -> gemmi.Op:
    """Gemmi's form of an operation (3, 4)."""
    op = gemmi.Op()
    whole = np.rint(operation * gemmi.Op.DEN).astype(int)
    op.rot, op.tran = whole[:, :3].tolist(), whole[:, 3].tolist()
    return op.wrap()


def _triplets(group: gemmi.GroupOps) -> set[str]:
    return {op.wrap().triplet() for op in group}


def stated_groups(block: cif.Block, cell: gemmi.UnitCell) -> tuple[list[Statement], list[str]]:
    """The groups that Hall symbol, name and number state, the most reliable first, and unknown words."""
    found: list[Statement] = []
    unknown: list[str] = []
    for hall in _values(block, _HALL_TAGS):
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
    for number in _values(block, NUMBER_TAGS):
        # gemmi takes no more than a C int, and 0 for 1.
        usable = number.isdecimal() and len(number) <= 3 and int(number) > 0
        if usable and (numbered := gemmi.find_spacegroup_by_number(int(number))) is not None:
            found.append(_numbered(numbered, cell))
        elif not number[:1].isdigit() and (meant := _named(number, cell)) is not None:  # P1, say
            found.append(meant)
        else:
            unknown.append(f"number {shown(number)}")
    return found, unknown


def _named(name: str, cell: gemmi.UnitCell) -> Statement | None:
    """The group of a Hermann-Mauguin symbol, with axes as the cell has them; nothing if it is not known."""
    if len(name) > _LONGEST_NAME:
        return None
    plain = re.sub(r"\(#\d+\)$|[()_]", "", name)
    plain = _ORIGIN.sub(lambda match: ":1" if match[1] == "S" else ":2", plain.strip())
    spellings = [plain, _ROTATION_OF_FULL.sub("", plain)]
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
    """A warning of names of different space groups or settings, or nothing."""
    pair = next(((one, other) for one, other in combinations(stated, 2) if one.contradicts(other)), None)
    if pair is None:
        return []
    what = "space groups" if pair[0].number != pair[1].number else "settings of a space group"
    words = f"{pair[0].words} and {pair[1].words}"
    return [f"symmetry-disagreement: the file names two {what}, {words}; correct one"]
