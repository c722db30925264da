"""From structures and labels to the project's table: joined by identifier, everything left out is listed."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mofgap.counts import counted
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.datasets.label_table import MAX_GAP_EV, LabelTable, is_missing, no_column, normalised
from mofgap.datasets.record import DatasetError, Record
from mofgap.datasets.table import TEXTS, TableWriter
from mofgap.whole_file import whole_file


@dataclass(frozen=True)
class Skip:
    """Something that was left out of the table, or changed.

    Attributes:
        structure_id: Structure id of the structure or label.
        source: The file, and the place in it.
        reason: ``name: what is wrong``.
    """

    structure_id: str
    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.structure_id or '(no name)'}: {self.reason} [{self.source}]"


@dataclass(frozen=True, eq=False)
class Imported:
    """The outcome of an import.

    Attributes:
        n_structures: Rows of the table.
        n_labels: Values in each column of labels.
        skipped: What is listed.
    """

    n_structures: int
    n_labels: Mapping[str, int]
    skipped: tuple[Skip, ...]

    def __str__(self) -> str:
        counts = (f"{count} with {name}" for name, count in self.n_labels.items())
        return ", ".join([counted(self.n_structures, "structure"), *counts])


def import_table(
    records: Iterable[Record | ReadFailure],
    labels: LabelTable | None,
    output: Path,
    targets: Mapping[str, str],
    *,
    texts: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Imported:
    """Write structures with their labels as a table.

    Args:
        records: Structures.
        labels: Labels of another file, joined by identifier; None where the records carry theirs.
        output: Parquet file; it appears whole or not at all, and not at all without a row.
        targets: Names of the gaps in the source, eV, and their columns; none imports structures alone.
        texts: Names of texts in the source, and their columns; one that begins with ``?`` may be absent.
        about: Kept in the file's metadata.

    Raises:
        DatasetError: If the source as a whole cannot be read, lacks a wanted column, or has structures
            without identifiers while ``labels`` are given.
    """
    texts = {f"?{name}": name for name in TEXTS} if texts is None else texts
    columns = list(dict.fromkeys(targets.values()))
    join = _Join(labels, targets, texts)
    n_labels = dict.fromkeys(columns, 0)
    with TableWriter(output, columns, list(dict.fromkeys(texts.values())), about or {}) as table:
        for record in records:
            outcome = join.values(record)
            if outcome is None or isinstance(record, ReadFailure):
                continue
            table.add(record, outcome)
            for name in columns:
                n_labels[name] += outcome[name] is not None
        join.check_names()
    return Imported(table.n_rows, n_labels, (*join.skipped, *join.left_over()))


def write_skipped(path: Path, skipped: Iterable[Skip]) -> None:
    """Write what was skipped as a CSV; none of an earlier import stays where nothing was."""
    rows = list(skipped)
    if not rows:
        path.unlink(missing_ok=True)
        return
    with (
        whole_file(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["structure_id", "reason", "source"])
        writer.writerows([skip.structure_id, skip.reason, skip.source] for skip in rows)


class _Join:
    """Finds the labels of each structure, and keeps which were used and what was left out."""

    def __init__(
        self, labels: LabelTable | None, targets: Mapping[str, str], texts: Mapping[str, str]
    ) -> None:
        self.labels, self.targets, self.texts = labels, targets, texts
        self.read: dict[str, str] = {}
        self.read_as: dict[str, str] = {}
        self.met: set[str] = set()
        self.names: dict[str, None] = {}
        self.skipped: list[Skip] = []

    def values(self, record: Record | ReadFailure) -> dict[str, Any] | None:
        """Labels and texts of a structure by column, or None where it is left out."""
        if isinstance(record, ReadFailure):
            self.met.add(self._key(record.structure_id))
            self.skipped.append(Skip(record.structure_id, record.source, record.reason))
            return None
        crystal = record.crystal
        name = self._key(crystal.structure_id)
        self.met.add(name)
        found, reason = self._found(name, record)
        if found is None:
            self.skipped.append(Skip(crystal.structure_id, crystal.source, reason))
            return None
        row = self._labels_of(found, crystal)
        if row is None:
            return None
        self.read[name], self.read_as[name] = crystal.source, crystal.structure_id
        texts = {column: found.get(column) for column in self.texts.values()}
        return row | {column: None if text in (None, "") else str(text) for column, text in texts.items()}

    def _key(self, structure_id: str) -> str:
        """The name of a structure among the labels, or its own where it carries them."""
        return structure_id if self.labels is None else self.labels.find(structure_id)

    def _labels_of(self, found: Mapping[str, Any], crystal: Crystal) -> dict[str, Any] | None:
        """Gaps by column, or None if gaps are wanted and the structure has none."""
        row: dict[str, Any] = {}
        reasons = []
        for column in self.targets.values():
            row[column], wrong = gap_of(found.get(column))
            if wrong:
                reasons.append(f"bad-label: {column}: {wrong}")
        usable = not row or any(gap is not None for gap in row.values())
        if not usable and not reasons:
            reasons.append(f"missing-label: no {' or '.join(self.targets)}")
        self.skipped += [Skip(crystal.structure_id, crystal.source, reason) for reason in reasons]
        return row if usable else None

    def _found(self, name: str, record: Record) -> tuple[Mapping[str, Any] | None, str]:
        """The labels of a structure, or why there are none."""
        if not name.isprintable():
            return None, "bad-name: no printable text in UTF-8; rename the file or the data block"
        if name in self.read:
            is_own = name == record.crystal.structure_id
            if self.labels is not None and is_own and normalised(self.read_as[name]) != name:
                raise DatasetError(
                    f"{self.labels.source}: {name} is the label of {self.read[name]} or of "
                    f"{record.crystal.source}; write whole names of files, such as {name}.cif"
                )
            return None, f"duplicate-structure: read already from {self.read[name]}"
        if self.labels is None:
            self.names |= dict.fromkeys(record.values)
            wanted = {**self.texts, **self.targets}
            return {column: record.values.get(old.lstrip("?")) for old, column in wanted.items()}, ""
        if record.numbered:
            raise DatasetError(
                f"{record.crystal.source}: structures without identifiers cannot be joined with "
                f"{self.labels.source}; name the identifier"
            )
        if name in self.labels.conflicting:
            return None, f"conflicting-labels: labelled more than once, differently, in {self.labels.source}"
        if name not in self.labels.rows:
            return None, f"missing-label: not in {self.labels.source}"
        return self.labels.rows[name], ""

    def left_over(self) -> Iterator[Skip]:
        """Labels without a structure, or with two values."""
        if self.labels is None:
            return
        source = self.labels.source
        for place in self.labels.unnamed:
            yield Skip("", f"{source}, row {place}", "no-identifier: a label without a name")
        for name in self.labels.rows:
            if name in self.labels.repeated:
                yield Skip(name, source, "repeated-label: labelled more than once with the same values")
            if name not in self.met:
                yield Skip(name, source, "missing-structure: labelled, but no structure of that name")

    def check_names(self) -> None:
        """Refuse a name of a label or text that no record had.

        Raises:
            DatasetError: If a wanted label or text occurs in no record.
        """
        wanted = [*self.targets, *(text for text in self.texts if not text.startswith("?"))]
        for old in wanted if self.labels is None and self.names else ():
            if old not in self.names:
                raise DatasetError(no_column(old, self.names))


def gap_of(value: Any) -> tuple[float | None, str]:
    """A gap in eV from a value of a file, or None; and what is wrong with the value."""
    if is_missing(value):
        return None, ""
    try:
        is_number = not isinstance(value, bool) and "_" not in str(value)  # Python reads 1_0 as 10
        gap = float(value) if is_number else math.nan
    except (OverflowError, TypeError, ValueError):
        gap = math.nan
    if not math.isfinite(gap):
        return None, f"{value!r} is no number"
    if gap > MAX_GAP_EV:
        return None, f"{gap:g} eV is more than any gap: convert it to eV"
    return (gap, "") if gap >= 0 else (None, f"{gap:g} eV is negative")
