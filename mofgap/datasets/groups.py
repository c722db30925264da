"""Groups of very similar structures, to be kept in one part of a split."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mofgap.crystals.formula import reduced_formula
from mofgap.datasets.label_table import is_missing

if TYPE_CHECKING:
    import pandas as pd

_REFCODE = re.compile("[A-Z]{6}([0-9]{2})?")
"""Of the Cambridge Structural Database."""
_NO_REFCODES = frozenset({"POSCAR"})

NAME_COLUMNS = ("refcode", "name")
"""Columns with further names of structures."""


def refcodes(name: str) -> list[str]:
    """The CSD refcodes in a name, between underscores and dots."""
    return [part for part in re.split("[_.]", name) if _REFCODE.fullmatch(part) and part not in _NO_REFCODES]


def refcode_families(name: str) -> set[str]:
    """The families of all CSD refcodes in a name.

    ``MOF-5_MIBQAR16`` has ``MIBQAR``, and a name without a refcode none.
    """
    return {refcode[:6] for refcode in refcodes(name)}


def refcode_family(name: str) -> str:
    """What all determinations of one substance share: the six letters of a CSD refcode, else the name.

    ``VOGTIV02_clean_h`` gives ``VOGTIV``. Of several refcodes the first counts.
    """
    found = refcodes(name)
    return found[0][:6] if found else name


def short_name(name: str) -> str:
    """The CSD refcode in the name that a collection gives, or else the whole name on one line.

    ``ABACUF01_FSR`` gives ``ABACUF01``, and ``core_XOQXOR_SL`` gives ``XOQXOR``.
    """
    name = " ".join(name.split())
    found = refcodes(name)
    return found[0] if len(found) == 1 else name


def families_of(names: Mapping[str, Iterable[object]] | pd.DataFrame) -> list[set[str]]:
    """The families of each structure by all of its names: refcode families, and names without a refcode.

    Args:
        names: Columns of names: ``structure_id`` and those of `NAME_COLUMNS` that there are. A name may be
            missing.
    """
    columns = [names[column] for column in ("structure_id", *NAME_COLUMNS) if column in names]
    return [_families(each) for each in zip(*columns, strict=True)]


def _families(names: Iterable[object]) -> set[str]:
    known = (name for name in names if isinstance(name, str) and not is_missing(name))
    return set[str]().union(*(refcode_families(name) or {name} for name in known))


def group_of(frame: pd.DataFrame, column: str = "group") -> pd.Series:
    """The group of each row as text: the given one, else that of formula and refcode family.

    Every deal of structures goes by it, whatever the structures were read from. See `group_names`.

    Args:
        frame: ``structure_id``, ``atomic_numbers`` and, where they are known, the column and `NAME_COLUMNS`.
        column: Column of groups that were given.
    """
    import pandas as pd

    given = frame.get(column)
    if given is not None and given.notna().all():
        return given.astype(str)
    frame = frame.assign(structure_id=frame.structure_id.astype(str))
    if "atomic_numbers" in frame:
        formulas = [reduced_formula(np.asarray(numbers)) for numbers in frame.atomic_numbers]
    else:
        formulas = frame.structure_id.map(refcode_family).tolist()
    found = pd.Series(group_names(formulas, families_of(frame)), frame.index, dtype=object)
    return (found if given is None else given.astype(object).where(given.notna(), found)).astype(str)


def group_names(formulas: Sequence[str], families: Sequence[str | Collection[str]]) -> list[str]:
    """A group for each structure: those that share a formula or a family, directly or through others.

    Args:
        formulas: (n,) formulas.
        families: (n,) families, one or several of each structure.

    Returns:
        (n,) names of groups, each the first formula of its members by alphabet.
    """
    import pandas as pd
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    formula, names = pd.factorize(np.array(formulas, dtype=object), sort=True)
    several = [{each} if isinstance(each, str) else each for each in families]
    family, known = pd.factorize(np.array([name for each in several for name in each], dtype=object))
    # Each structure links its formula and its families.
    links = np.repeat(formula, [len(each) for each in several]), len(names) + family
    n = len(names) + len(known)
    _, part = connected_components(coo_array((np.ones(len(family)), links), (n, n)), directed=False)
    # The names are in the order of the alphabet, so that the lowest number of a part is its first.
    lowest = pd.Series(formula).groupby(part[formula]).transform("min")
    found: list[str] = names[lowest].tolist()
    return found
