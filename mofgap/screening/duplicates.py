"""Rows of the same structure: in another cell, under another name, or in another file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mofgap.screening.row import NEAREST_SEPARATOR, Row

TOLERANCES = {
    "gap_ev": 0.001,
    "aleatoric_std_ev": 0.001,
    "epistemic_std_ev": 0.0015,
    "novelty": 0.003,
}
"""How far the numbers of two rows of one structure may lie apart: what coordinates of 5 digits do to them.

What the model says of a structure depends neither on its cell nor on the order and origin of its atoms.
Two structures of one composition are taken for the same if four numbers and the nearest training structures
agree. That confuses only near twins (conformers, and relaxations from two files), whose gaps are the same.
"""

_LIMITS = tuple(limit + 1e-9 for limit in TOLERANCES.values())  # the last digit of a difference is not exact


class Features(NamedTuple):
    """The fields of a row by which structures are distinguished."""

    formula: str
    gap_ev: float | None
    aleatoric_std_ev: float | None
    epistemic_std_ev: float | None
    novelty: float | None
    nearest: str


Comparable = Row | Features


def originals(rows: Sequence[Comparable]) -> list[int]:
    """For each row the index of the first row of the same structure, which may be itself.

    Two rows are of one structure if they have the same formula and their numbers agree within `TOLERANCES`.
    They also are if a chain of such rows joins them. Failures are alone. Which rows are of one structure does
    not depend on their order.

    Args:
        rows: Rows of one model and the same settings.
    """
    first = list(range(len(rows)))
    by_formula: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row.formula and row.gap_ev is not None and row.novelty is not None:
            by_formula[row.formula].append(place)
    for places in by_formula.values():
        if len(places) > 1:
            _join_equal(rows, places, first)
    return first


def n_duplicates(rows: Iterable[Comparable]) -> int:
    """Number of rows whose structure an earlier row has."""
    return sum(place != first for place, first in enumerate(originals(list(rows))))


def _numbers(row: Comparable) -> tuple[float | None, ...]:
    return row.gap_ev, row.aleatoric_std_ev, row.epistemic_std_ev, row.novelty


def _join_equal(rows: Sequence[Comparable], places: Sequence[int], first: list[int]) -> None:
    """Set ``first`` for rows of one formula: those of the same structure get the same index."""
    same: dict[object, int] = {}  # copies to the last digit may be many, and need no comparison
    for place in places:
        first[place] = same.setdefault((_numbers(rows[place]), rows[place].nearest), place)
    different = sorted(same.values(), key=lambda place: (rows[place].gap_ev or 0.0, place))
    root = dict(zip(different, _joined([rows[place] for place in different], different), strict=True))
    for place in places:
        first[place] = root[first[place]]


def _joined(rows: Sequence[Comparable], places: Sequence[int]) -> list[int]:
    """The least of the places of each row's structure, for rows of one formula in the order of their gaps."""
    import numpy as np

    numbers = np.array([[number or 0.0 for number in _numbers(row)] for row in rows])
    ids: dict[str, int] = {}
    near = [[ids.setdefault(name, len(ids)) for name in row.nearest.split(NEAREST_SEPARATOR)] for row in rows]
    longest = max(map(len, near))
    nearest = np.array([each + [-1] * (longest - len(each)) for each in near])
    root, ends = np.array(places), np.searchsorted(numbers[:, 0], numbers[:, 0] + _LIMITS[0], side="right")
    for i, end in enumerate(ends.tolist()):
        later = slice(i + 1, end)
        agree = (np.abs(numbers[later] - numbers[i]) <= _LIMITS).all(1)
        if not agree.any():
            continue
        # Two that are about as near may change places.
        agree &= (nearest[later] == nearest[i, 0]).any(1) & np.isin(nearest[later, 0], nearest[i])
        joined = np.unique(root[later][agree])
        if len(joined) and (len(joined) > 1 or joined[0] != root[i]):
            root[np.isin(root, [root[i], *joined])] = min(root[i], joined[0])
    found: list[int] = root.tolist()
    return found
