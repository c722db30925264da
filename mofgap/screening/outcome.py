"""The outcome of a screening: the counts of its summary, from rows in memory or in a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from mofgap.screening.duplicates import n_duplicates
from mofgap.screening.rank import is_novel
from mofgap.screening.row import Row, plain_values

T = TypeVar("T")

N_FAILURES_SHOWN = 10


@dataclass
class Outcome:
    """Counts over all rows of a screening.

    Attributes:
        n_rows: How many there are.
        n_warned: Those with the status ``warning``.
        n_failed: Those with the status ``failed``.
        n_novel: Predicted rows with the warning ``novel``.
        n_copies: Rows of a structure that an earlier row has.
        levels: Level of theory of predicted rows, and whether they have `PBE_COLUMNS` too.
        first_failed: The first failures, in the order of the inputs.
    """

    n_rows: int = 0
    n_warned: int = 0
    n_failed: int = 0
    n_novel: int = 0
    n_copies: int = 0
    levels: set[tuple[str, bool]] = field(default_factory=set)
    first_failed: list[Row] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Outcome:
        """The counts of rows in memory."""
        outcome = cls(n_copies=n_duplicates(rows))
        for row in rows:
            outcome.add(row)
        outcome.first_failed = [row for row in rows if row.status == "failed"][:N_FAILURES_SHOWN]
        return outcome

    @property
    def nothing_done(self) -> bool:
        """Whether there are rows, and all failed."""
        return 0 < self.n_rows == self.n_failed

    def to_json(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        failed = [plain_values(row) for row in self.first_failed]
        return asdict(self) | {"levels": sorted(map(list, self.levels)), "first_failed": failed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Outcome:
        """The counts from the values of `to_json`."""
        levels = {(level, of_two) for level, of_two in content["levels"]}
        failed = [Row(**row) for row in content["first_failed"]]
        return cls(**{**content, "levels": levels, "first_failed": failed})

    def add(self, row: Row) -> None:
        """Count a row. Duplicates are not counted, and failures are not kept."""
        self.n_rows += 1
        self.n_warned += row.status == "warning"
        self.n_failed += row.status == "failed"
        if row.gap_ev is not None:
            self.n_novel += is_novel(row)
            self.levels.add((row.level_of_theory, row.pbe_gap_ev is not None))

    def join(self, other: Outcome) -> None:
        """Add the counts of another part, but not duplicates and failures, which need all rows."""
        for name in ("n_rows", "n_warned", "n_failed", "n_novel"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.levels |= other.levels

    def counting(self, inputs: Iterable[tuple[T, Sequence[Row]]]) -> Iterator[tuple[T, Sequence[Row]]]:
        """Yield the inputs and count their rows."""
        for place, rows in inputs:
            for row in rows:
                self.add(row)
            yield place, rows
