"""One line of the table: a structure with its gap, or an input that failed with its reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from mofgap.crystals.formats import stem_of

if TYPE_CHECKING:
    from mofgap.crystals.entry import ReadFailure

Status = Literal["ok", "warning", "failed"]

DECIMALS = 4
"""Digits kept of every number: 0.1 meV and 0.01 % are below anything the model can mean."""

FAILED = "prediction-failed"
"""How the reason begins where a structure was read, but not computed."""

# Control characters, halves of undecodable file names and reordering marks would break a line of text,
# fool a terminal, or be refused by a format.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; the fields are its columns, in order, the last four where there are two levels.

    Attributes:
        rank: 1 for the best; None for a failure.
        file: The path, archive member, or ``memory``.
        structure_id: The file's stem, or the data block where a file holds several.
        status: ``ok``, ``warning`` (predicted, but something about it deserves a look) or ``failed``.
        reason: Why it failed and what to do; empty otherwise.
        formula: Reduced formula in Hill order.
        n_atoms: Atoms of the cell that was predicted, the primitive one unless the preparation leaves it.
        gap_ev: Predicted gap, eV.
        gap_std_ev: Calibrated total standard deviation, eV.
        epistemic_std_ev: Its epistemic part, eV; None where there is none.
        aleatoric_std_ev: Its aleatoric part, eV: noise of the labels, and what the model cannot
            distinguish.
        gap_lo90_ev: Lower end of the interval, eV; tables name it by its coverage, see `column_names`.
        gap_hi90_ev: Upper end of the interval, eV.
        p_in_window: Probability that the gap lies in the window; None without one.
        novelty: 0..1, the share of training structures less remote from the rest than this one.
        warnings: ``name: explanation`` texts, joined by `WARNING_SEPARATOR`.
        level_of_theory: Level of theory of the gap.
        model: Name of the model.
        nearest: The nearest training structures, ``id (name, gap eV)`` each as far as they are known, joined
            by `NEAREST_SEPARATOR`.
        window_lo_ev: Lower end of the window that `p_in_window` is about, eV; None where it is open.
        window_hi_ev: Its upper end, eV; None where it is open.
        pbe_gap_ev: Gap that PBE is predicted to give, eV, where the others are HSE06's (``--level both``).
        pbe_gap_std_ev: Its calibrated total standard deviation, eV.
        pbe_gap_lo90_ev: Lower end of its interval, eV.
        pbe_gap_hi90_ev: Upper end of its interval, eV.
    """

    rank: int | None
    file: str
    structure_id: str
    status: Status
    reason: str = ""
    formula: str = ""
    n_atoms: int | None = None
    gap_ev: float | None = None
    gap_std_ev: float | None = None
    epistemic_std_ev: float | None = None
    aleatoric_std_ev: float | None = None
    gap_lo90_ev: float | None = None
    gap_hi90_ev: float | None = None
    p_in_window: float | None = None
    novelty: float | None = None
    warnings: str = ""
    level_of_theory: str = ""
    model: str = ""
    nearest: str = ""
    window_lo_ev: float | None = None
    window_hi_ev: float | None = None
    pbe_gap_ev: float | None = None
    pbe_gap_std_ev: float | None = None
    pbe_gap_lo90_ev: float | None = None
    pbe_gap_hi90_ev: float | None = None


def failed_row(failure: ReadFailure) -> Row:
    """The row of an input that gave no gap."""
    return Row(
        rank=None,
        file=printable(failure.source),
        structure_id=printable(failure.structure_id),
        status="failed",
        reason=printable(failure.reason),
    )


def named(file: str, structure_id: str) -> str:
    """A structure in a message: its file, with its own name in brackets if the file has another."""
    return file if stem_of(file) == structure_id else f"{file} [{structure_id}]"


FIELDS = tuple(field.name for field in fields(Row))
PBE_COLUMNS = tuple(name for name in FIELDS if name.startswith("pbe_"))
COLUMNS = FIELDS[: -len(PBE_COLUMNS)]
INTEGERS = ("rank", "n_atoms")
TEXTS = (
    "file",
    "structure_id",
    "status",
    "reason",
    "formula",
    "warnings",
    "level_of_theory",
    "model",
    "nearest",
)
WARNING_SEPARATOR = NEAREST_SEPARATOR = " | "
DEFAULT_COVERAGE = 0.9

Cell = int | float | str | None


def column_names(coverage: float = DEFAULT_COVERAGE, two_levels: bool = False) -> list[str]:
    """The columns of a table, its intervals named by their coverage, such as ``gap_lo95_ev``.

    Args:
        coverage: Coverage of the intervals.
        two_levels: Whether the table has `PBE_COLUMNS` too, after `COLUMNS`.
    """
    return [name.replace("90", f"{100 * coverage:.10g}") for name in (FIELDS if two_levels else COLUMNS)]


def cells(row: Row, n_columns: int = len(COLUMNS)) -> list[Cell]:
    """The first ``n_columns`` values of a row, in the order of the columns."""
    return list(_getter(n_columns)(row))


def named_cells(row: Row, columns: Sequence[str]) -> dict[str, Cell]:
    """The first values of a row by the names of their columns, see `column_names`."""
    return dict(zip(columns, cells(row, len(columns)), strict=True))


@cache
def _getter(n_columns: int) -> Callable[[Row], tuple[Cell, ...]]:
    """A fast getter of the first fields of a row."""
    return attrgetter(*FIELDS[:n_columns])


def plain_values(row: Row) -> dict[str, Any]:
    """The fields of a row for JSON, with `PBE_COLUMNS` if the row has them."""
    names = COLUMNS if row.pbe_gap_ev is None else FIELDS
    return {name: getattr(row, name) for name in names}


def warnings_of(text: object) -> list[tuple[str, str]]:
    """The (name, explanation) of each warning of a row; none if ``text`` is not a string."""
    parts = text.split(WARNING_SEPARATOR) if isinstance(text, str) else []
    found = (part.partition(":") for part in parts if part)
    return [(name.strip(), words.strip()) for name, _, words in found]


def printable(text: str) -> str:
    """Text for any output: control characters and the like become ``�``."""
    return _UNPRINTABLE.sub("�", text)


def rounded(value: float) -> float | None:
    """A number of a row; None for one that is not known (NaN). Adding zero turns -0.0 into 0.0."""
    return None if value != value else round(float(value), DECIMALS) + 0.0


def shortened(name: str) -> str:
    """A name; a long one is cut in the middle, since names of a series differ at their ends."""
    return name if len(name) <= 32 else f"{name[:16]}…{name[-15:]}"
