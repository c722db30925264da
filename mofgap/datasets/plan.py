"""What an import reads: a path or a dataset by name, its format, its labels and their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from mofgap.choices import Disorder
from mofgap.datasets import qmof
from mofgap.datasets.formats import Format, format_of, read_structures
from mofgap.datasets.label_table import LabelTable, read_label_table
from mofgap.datasets.record import DatasetError, Record, Records
from mofgap.datasets.registry import Dataset, find_dataset
from mofgap.datasets.table import STRUCTURE, TEXTS
from mofgap.whole_file import sha256_of

QMOF_TEXTS = {"source": "info.source", "doi": "info.doi"}
"""Columns of text that the labels of QMOF call otherwise."""

_TAKEN = {*STRUCTURE, *qmof.ATOM_COLUMNS.values()}


@dataclass(frozen=True)
class ImportChoices:
    """The user's choices for an import.

    Attributes:
        targets: ``NAME`` or ``NAME=COLUMN`` of each gap; none takes those of the dataset.
        keep: Likewise of texts.
        id_name: Name of the identifier; None finds it.
        kind: Format; None finds it.
        labels: CSV of labels.
        without_labels: Structures alone.
    """

    targets: Sequence[str] = ()
    keep: Sequence[str] = ()
    id_name: str | None = None
    kind: Format | None = None
    labels: Path | None = None
    without_labels: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """What an import reads.

    Attributes:
        path: Path of the structures.
        kind: Their format.
        labels: CSV of labels, or None.
        targets: Names of gaps, and their columns.
        texts: Names of texts, and their columns; one that begins with ``?`` may be absent.
        wanted: What it was made of.
        dataset: The dataset of that name, or None.
    """

    path: Path
    kind: Format
    labels: Path | None
    targets: Mapping[str, str]
    texts: Mapping[str, str]
    wanted: ImportChoices
    dataset: Dataset | None

    def label_table(self) -> LabelTable | None:
        """The labels in a table of their own; None if the structures have their labels with them.

        Raises:
            DatasetError: If the labels cannot be read.
        """
        columns = {**self.texts, **self.targets}
        if self.labels is not None:
            return read_label_table(self.labels, self.wanted.id_name, columns)
        if self.kind == "qmof" and self.targets:
            return qmof.read_labels_of(self.path, columns)
        return None

    def records(self, max_atoms: int, disorder: Disorder = "refuse") -> Records:
        """The structures as of `read_structures`; a first look makes sure that gaps are named, if any.

        Raises:
            DatasetError: If the structures cannot be read, or they carry values and no gap was named.
        """
        records = read_structures(self.path, self.kind, max_atoms, self.wanted.id_name, disorder)
        if self.targets or self.labels is not None or self.kind in ("cifs", "qmof"):
            return records
        first = next(records, None)
        if isinstance(first, Record) and first.values and not self.wanted.without_labels:
            numbers = [name for name, value in first.values.items() if isinstance(value, int | float)]
            raise DatasetError(
                f"{self.path}: name the gap with --target, or give --without-labels; "
                f"numbers in it are {', '.join(numbers) or 'none'}"
            )
        return chain([] if first is None else [first], records)

    def about(self, command: str) -> dict[str, Any]:
        """Where the table comes from, for its metadata."""
        files = [path for path in (self.path, self.labels) if path is not None and path.is_file()]
        about: dict[str, Any] = {
            "command": command,
            "format": self.kind,
            "sha256": {path.name: sha256_of(path) for path in files},
            "targets": dict(self.targets),
        }
        if self.dataset is not None:
            about |= {"licence": self.dataset.licence, "citation": list(self.dataset.citation)}
        return about


def make_plan(source: str, wanted: ImportChoices, folder: Path) -> Plan:
    """Decide what an import reads.

    Args:
        source: A path, or the name of a dataset.
        wanted: What the user asked for.
        folder: Folder of fetched data.

    Raises:
        DatasetError: If ``source`` is neither a path nor a dataset, was not fetched, or does not fit
            ``wanted``.
    """
    path, dataset = Path(source), None
    if not path.exists():
        dataset = _dataset(source)
        path = dataset.location(folder)
        if not path.exists():
            raise DatasetError(f"{path} is not here; mofgap data fetch {source}")
    kind = wanted.kind or format_of(path)
    labels = wanted.labels
    if dataset is not None and dataset.labels is not None and labels is None and not wanted.without_labels:
        labels = path.parent.parent / dataset.labels
    known = find_dataset("qmof") if dataset is None and kind == "qmof" and labels is None else dataset
    targets = _named(wanted.targets)
    if not targets and known is not None and not wanted.without_labels and wanted.labels is None:
        targets = dict(known.targets)
    names = QMOF_TEXTS if kind == "qmof" and labels is None else {}
    texts = {f"?{names.get(column, column)}": column for column in TEXTS} | _named(wanted.keep)
    _check_columns([*targets.values(), *texts.values()])
    _check_labelled(source, kind, labels, targets, wanted, dataset)
    return Plan(path, kind, labels, targets, texts, wanted, dataset)


def _dataset(source: str) -> Dataset:
    try:
        return find_dataset(source)
    except DatasetError as error:
        raise DatasetError(f"{source}: no such file or folder, and {error}") from error


def _named(pairs: Iterable[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for pair in pairs:
        name, _, column = pair.partition("=")
        if name in named:
            raise DatasetError(f"{name!r} is asked for twice; leave one out")
        named[name] = column or name
    return named


def _check_columns(columns: Sequence[str]) -> None:
    repeated = next((name for name in columns if columns.count(name) > 1 or name in _TAKEN), None)
    if repeated is not None:
        raise DatasetError(f"column {repeated!r} would be there twice; name another with NAME=COLUMN")


def _check_labelled(
    source: str,
    kind: Format,
    labels: Path | None,
    targets: Mapping[str, str],
    wanted: ImportChoices,
    dataset: Dataset | None,
) -> None:
    """Check that gaps and their names go together."""
    if kind == "cifs" and labels is None:
        if targets:
            raise DatasetError(f"{source}: CIFs carry no gaps; give a CSV of labels too")
        if wanted.keep or wanted.id_name is not None:
            raise DatasetError(
                f"{source}: CIFs without labels have no columns for --keep or --id; leave these out"
            )
        if not wanted.without_labels and dataset is None:
            raise DatasetError(f"{source}: CIFs carry no gaps; give a CSV of labels, or --without-labels")
    if labels is not None and not targets:
        raise DatasetError(f"{labels}: name the column of the gap with --target")
