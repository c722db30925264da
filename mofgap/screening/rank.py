"""The order of a table: the most promising first, failures last."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Literal, get_args

from mofgap.choices import check_choice
from mofgap.crystals.reasons import listed
from mofgap.screening.duplicates import originals
from mofgap.screening.row import WARNING_SEPARATOR, Row, named, warnings_of

RankBy = Literal["window", "low", "high", "std"]
RANKINGS: tuple[RankBy, ...] = get_args(RankBy)
Novelty = Literal["keep", "last", "drop"]
NOVELTIES: tuple[Novelty, ...] = get_args(Novelty)
Duplicates = Literal["keep", "first"]
DUPLICATES: tuple[Duplicates, ...] = get_args(Duplicates)

DUPLICATE = "duplicate"
"""Name of the note of a row whose structure another row has, or had, too."""

MAX_WINDOW_START_EV = 100.0
"""A window that begins above it is not one in eV: gaps in QMOF end below 10 eV."""

SortKey = tuple[bool, float, float, str, str]
"""What rows are sorted by: whether they come last, how bad they are in two numbers, their names."""

_BADNESS: dict[RankBy, Callable[[Row], tuple[float, float]]] = {
    "window": lambda row: (-_number(row.p_in_window), _outside(row)),
    "low": lambda row: (_number(row.gap_ev), 0.0),
    "high": lambda row: (-_number(row.gap_ev), 0.0),
    "std": lambda row: (_number(row.gap_std_ev), 0.0),
}


def check_window(low: float, high: float) -> None:
    """Refuse two ends that make no gap window, eV; an infinite end is open.

    Raises:
        ValueError: If ``low`` is above ``high`` or above `MAX_WINDOW_START_EV`, an end is not a number, or
            both ends are the same infinity.
    """
    if not low <= high:
        raise ValueError(f"a window needs its lower end first, not {low} {high}")
    if low == high and math.isinf(low):
        raise ValueError(f"the ends of a window may not be the same infinity, {low}")
    if low > MAX_WINDOW_START_EV:
        cure = "give eV: divide meV by 1000, or 1239.84 by a wavelength in nm"
        raise ValueError(f"no MOF has a gap from {low:g} to {high:g} eV; {cure}")


def ranking(rank_by: RankBy | None, window: tuple[float, float] | None) -> RankBy:
    """What to rank by: as asked for; by default the window if there is one, else the smallest gap.

    Raises:
        ValueError: If ``rank_by`` needs a window and ``window`` is None.
    """
    if rank_by is None:
        return "low" if window is None else "window"
    if rank_by == "window" and window is None:
        raise ValueError("ranking by window needs a window; give one, or another rank_by")
    return rank_by


def is_novel(row: Row) -> bool:
    """Whether a row has the warning ``novel``."""
    return any(name == "novel" for name, _ in warnings_of(row.warnings))


def rank_rows(
    rows: Iterable[Row],
    rank_by: RankBy,
    top: int | None = None,
    novelty: Novelty = "keep",
    duplicates: Duplicates = "keep",
) -> list[Row]:
    """Put rows in order and number them.

    ``window`` puts the largest probability first. Of equal ones (0 and 1, in four decimals) it takes the gap
    that lies the fewest error bars outside or the most inside. ``low`` and ``high`` put the smallest and
    largest gap first, ``std`` the smallest error bar. Ties go by file and structure id. Rows of one structure
    (see `originals`) share a rank, that of the best of them, and follow it. Failures have no rank and come
    last, in the order of the inputs.

    Args:
        rows: In the order of the inputs.
        rank_by: See above.
        top: Keep this many ranks; failures always stay in the table.
        novelty: What becomes of rows with the warning ``novel``: ``keep`` them in order, rank them ``last``,
            or ``drop`` them.
        duplicates: What becomes of further rows of one structure: ``keep`` them with a note that names the
            first, or keep only the ``first``, with a note that names the others, and their notes on training.

    Raises:
        ValueError: If ``rank_by``, ``novelty`` or ``duplicates`` is unknown, or a predicted row lacks the
            number that ``rank_by`` needs.
    """
    check_order(rank_by, novelty, duplicates)
    everything = list(rows)
    predicted = [row for row in everything if is_ranked(row, novelty)]
    predicted.sort(key=partial(sort_key, rank_by=rank_by, novelty=novelty))
    groups: dict[int, list[Row]] = {}
    for row, first in zip(predicted, originals(predicted), strict=True):
        groups.setdefault(first, []).append(row)
    failed = (row for row in everything if row.status == "failed")
    return [*numbered(groups.values(), top, duplicates), *failed]


def check_order(rank_by: RankBy, novelty: Novelty, duplicates: Duplicates) -> None:
    """Refuse unknown choices.

    Raises:
        ValueError: If ``rank_by``, ``novelty`` or ``duplicates`` is unknown.
    """
    check_choice("rank_by", rank_by, RANKINGS)
    check_choice("novelty", novelty, NOVELTIES)
    check_choice("duplicates", duplicates, DUPLICATES)


def is_ranked(row: Row, novelty: Novelty) -> bool:
    """Whether a row gets a rank, if it is among the best."""
    return row.status != "failed" and not (novelty == "drop" and is_novel(row))


def sort_key(row: Row, rank_by: RankBy, novelty: Novelty) -> SortKey:
    """What rows are sorted by, see `rank_rows`. Rows with the same key stay in the order of the inputs.

    Raises:
        ValueError: If the row lacks the number that rows are ranked by.
    """
    badness = _BADNESS[rank_by](row)
    return novelty == "last" and is_novel(row), *badness, row.file, row.structure_id


def numbered(groups: Iterable[Iterable[Row]], top: int | None, duplicates: Duplicates) -> Iterator[Row]:
    """The rows of a table that have a rank: the rows of each structure, the best structure first."""
    for rank, group in enumerate(islice(groups, top), start=1):
        for row in _noted(group) if duplicates == "keep" else [_alone(group)]:
            yield replace(row, rank=rank)


def _noted(group: Iterable[Row]) -> Iterator[Row]:
    """The rows of one structure, all but the first with a note."""
    rows = iter(group)
    first = next(rows)
    yield first
    note = f"{DUPLICATE}: same structure as {named(first.file, first.structure_id)}"
    yield from (_with_notes(row, note) for row in rows)


def _alone(group: Iterable[Row]) -> Row:
    """The first row of a structure without a warning, or else the first, with notes if there are others."""
    # --help comes by here, and this needs numpy.
    from mofgap.gap.novelty_warnings import IN_TRAINING, SAME_REFCODE

    rows = list(group)
    first = next((row for row in rows if row.status == "ok"), rows[0])
    others = [row for row in rows if row is not first]
    if not others:
        return first
    own = {name for name, _ in warnings_of(first.warnings)}
    told = {n: f"{n}: {words}" for row in reversed(others) for n, words in warnings_of(row.warnings)}
    kept = [told[name] for name in (IN_TRAINING, SAME_REFCODE) if name in told and name not in own]
    copies = listed([named(row.file, row.structure_id) for row in others])
    return _with_notes(first, *kept, f"{DUPLICATE}: left out the same structure in {copies}")


def _with_notes(row: Row, *notes: str) -> Row:
    return replace(row, warnings=WARNING_SEPARATOR.join(filter(None, [row.warnings, *notes])))


def _outside(row: Row) -> float:
    """How far the gap lies outside the window, in standard deviations; negative inside."""
    gap, low, high = _number(row.gap_ev), row.window_lo_ev, row.window_hi_ev
    beyond = max(-math.inf if low is None else low - gap, -math.inf if high is None else gap - high)
    return beyond / max(_number(row.gap_std_ev), 1e-4)


def _number(value: float | None) -> float:
    if value is None:
        raise ValueError("a predicted row lacks the number it is ranked by")
    return value
