"""Groups of very similar structures, to be kept in one part of a split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mofgap.crystals.formula import reduced_formula

if TYPE_CHECKING:
    import pandas as pd

_REFCODE = re.compile("[A-Z]{6}([0-9]{2})?")
"""Of the Cambridge Structural Database."""

FAMILY_NAMES = ("name", "refcode")
"""Columns whose names tell the family, the first that is there, before that of identifiers."""


def refcode_family(name: str) -> str:
    """What all determinations of one substance share: the six letters of a CSD refcode, else the name.

    ``VOGTIV02_clean_h`` gives ``VOGTIV``; endings after an underscore are notes of collections.
    """
    stem = name.split("_")[0]
    letters = stem[:6]
    is_refcode = len(letters) == 6 and letters.isascii() and letters.isalpha() and letters.isupper()
    return letters if is_refcode and not stem[6:].strip("0123456789") else name


def refcode_families(name: str) -> set[str]:
    """The families of all CSD refcodes in a name.

    ``MOF-5_MIBQAR16`` has ``MIBQAR``, and a name without a refcode none.
    """
    return {part[:6] for part in name.split("_") if _REFCODE.fullmatch(part)}


def short_name(name: str) -> str:
    """The CSD refcode in the name that a collection gives, or else the whole name on one line.

    ``ABACUF01_FSR`` gives ``ABACUF01``, and ``core_XOQXOR_SL`` gives ``XOQXOR``.
    """
    name = " ".join(name.split())
    refcodes = [part for part in name.split("_") if _REFCODE.fullmatch(part)]
    return refcodes[0] if len(refcodes) == 1 else name


def group_of(frame: pd.DataFrame, column: str = "group") -> pd.Series:
    """The group of each row as text: the given one, else that of formula and refcode family.

    Every deal of structures goes by it, whatever the structures were read from. See `group_names`.

    Args:
        frame: ``structure_id``, ``atomic_numbers`` and, where they are known, the column and `FAMILY_NAMES`.
        column: Column of groups that were given.
    """
    given = frame.get(column)
    if given is not None and given.notna().all():
        return given.astype(str)
    found = frame.structure_id.astype(str)
    for column_of_names in reversed([name for name in FAMILY_NAMES if name in frame]):
        names = frame[column_of_names]
        found = names.where(names.map(lambda name: isinstance(name, str) and name != ""), found)
    families = found.map(refcode_family)
    if "atomic_numbers" in frame and len(frame):
        formulas = [reduced_formula(np.asarray(numbers)) for numbers in frame.atomic_numbers]
        families = families.set_axis(frame.index)
        families.loc[:] = group_names(formulas, families.tolist())
    return (families if given is None else given.where(given.notna(), families)).astype(str)


def group_names(formulas: Sequence[str], families: Sequence[str]) -> list[str]:
    """A group for each structure: those that share a formula or a family, directly or through others.

    Returns:
        (n,) names of groups, each the first formula of its members by alphabet.
    """
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    formula, names = pd.factorize(np.array(formulas, dtype=object), sort=True)
    family, _ = pd.factorize(np.array(families, dtype=object))
    n = 2 * len(formula)
    # Each structure links its formula and its family.
    links = coo_array((np.ones(len(formula)), (formula, len(formula) + family)), (n, n))
    _, part = connected_components(links, directed=False)
    # The names are in the order of the alphabet, so that the lowest number of a part is its first.
    lowest = pd.Series(formula).groupby(part[formula]).transform("min")
    found: list[str] = names[lowest].tolist()
    return found
