"""Labelled structures from a parquet table, or from a table of labels and a folder of CIFs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mofgap.choices import MAX_ATOMS, Disorder
from mofgap.counts import counted
from mofgap.crystals.checks import faults, is_unbalanced
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import STRUCTURE_COLUMNS, TableError, crystal_of_row, read_table, table_crystals
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.prepare.steps import DEFAULT_PREPARATION
from mofgap.crystals.reasons import NOWHERE
from mofgap.crystals.unit_cell import check_apart, check_usable
from mofgap.datasets.cif_records import read_cifs
from mofgap.datasets.groups import NAME_COLUMNS, group_of, short_name
from mofgap.datasets.label_table import MAX_GAP_EV, is_missing, no_column, other_unit, read_label_table
from mofgap.datasets.record import DatasetError
from mofgap.whole_file import why_missing

SPLITS = ("train", "val", "test")
N_SHOWN = 5
"""Number of reasons that are shown if no structure could be read."""


@dataclass(frozen=True, eq=False)
class Labels:
    """A table of structures with gaps and splits.

    Attributes:
        frame: ``structure_id``, ``cell_angstrom``, ``atomic_numbers``, ``frac_coords``, the label and
            ``split`` (train, val or test).
        target: Name of the label's column, eV.
        skipped: One line for each structure or label that was left out, and why.
        notes: One line for each that was used, but is worth a look, and why.
        faulty: The same for each whose CIF is probably faulty.
    """

    frame: pd.DataFrame
    target: str
    skipped: tuple[str, ...]
    notes: tuple[str, ...] = ()
    faulty: tuple[str, ...] = ()

    @property
    def families(self) -> list[str]:
        """The family of each row; families are not divided among splits.

        Those of one ``group``, where there is such a column, as ``mofgap data import`` writes it; else those
        of one formula, or whose names are CSD refcodes of one family.
        """
        return group_of(self.frame).tolist()

    @property
    def names(self) -> list[str]:
        """A name that a chemist knows for each row, from `NAME_COLUMNS`; empty where there is none."""
        names = [""] * len(self.frame)
        for column in reversed([column for column in NAME_COLUMNS if column in self.frame]):
            given = self.frame[column].map(lambda value: value if isinstance(value, str) else "")
            names = [short_name(new) or old for new, old in zip(given, names, strict=True)]
        return names

    def positions(self, split: str) -> list[int]:
        """Rows of a split."""
        return positions(self.frame, split)


def positions(frame: pd.DataFrame, split: str) -> list[int]:
    """Rows of a split of a table."""
    return np.flatnonzero(frame.split == split).tolist()


def read_labels(
    path: Path,
    cifs: Path | None,
    target: str,
    *,
    split_column: str = "split",
    keep: Sequence[str] = (),
    seed: int = 0,
    needed: Sequence[str] = ("train", "val"),
    few: int = 0,
    all_rows: bool = False,
    disorder: Disorder = "refuse",
    max_atoms: int = MAX_ATOMS,
) -> Labels:
    """Read labelled structures.

    Args:
        path: A parquet table of structures and labels; or labels as CSV, TSV or Excel.
        cifs: Folder or archive of the CIFs a CSV's labels belong to; joined by file name or data block.
        target: Column of the gaps, eV.
        split_column: Column of ``train``/``val``/``test``; where there is no column ``split`` and no other
            is named, structures are dealt 80/10/10 by a hash of `Labels.families` and seed.
        keep: More columns of a CSV that stay in the table, where they are there.
        seed: Seed of that deal.
        needed: Splits that must not be empty.
        few: Fewer structures than this are not dealt out: all go to ``train``.
        all_rows: All go to ``train``, however many there are and whatever ``split_column`` says.
        disorder: What to do about partial occupancies in CIFs.
        max_atoms: Largest cell of a CIF that is accepted.

    Raises:
        TableError: If the table ``path`` or the folder ``cifs`` cannot be read, a column is missing, or a
            needed split is empty or unknown.
    """
    if path.suffix.lower() == ".parquet":
        if cifs is not None:
            raise TableError(f"{path} holds structures itself; a folder of CIFs goes with a CSV of labels")
        frame, skipped, notes = read_table(path), list[str](), list[str]()
    elif cifs is None:
        lacking = "holds labels only; name the folder of their CIFs too"
        raise TableError(f"{path}: {why_missing(path) or lacking}")
    else:
        columns = {f"?{name}": name for name in ("split", "group", *keep)} | {target: target}
        if split_column != "split":
            columns[split_column] = split_column
        frame, skipped, notes = _join(path, cifs, columns, disorder, max_atoms)
    for name in (target,) if split_column == "split" else (target, split_column):
        if name not in frame.columns:
            raise TableError(f"{path}: {no_column(name, frame.columns)}")
    frame, reasons = _usable_rows(frame, target, path)
    if frame.empty:
        raise TableError("\n".join([f"{path}: no structure can be used", *reasons[:N_SHOWN]]))
    if all_rows or (split_column not in frame and len(frame) < few):
        frame, split_column, needed = frame.assign(split="train"), "split", ("train",)
    frame = _with_split(frame, split_column, seed, needed, path)
    # Those without a label come last: usually many, and as meant.
    left_out = sorted((*skipped, *reasons), key=lambda line: line.endswith(": no label"))
    return Labels(frame, target, tuple(left_out), tuple(notes), () if cifs is None else _faulty(frame))


def are_unbalanced(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """(n,) whether the charges of a row do not add up; False where a comparison keeps graphs alone."""
    if "frac_coords" not in frame.columns:
        return np.zeros(len(frame), dtype=bool)
    return np.array([is_unbalanced(crystal) for crystal in table_crystals(frame)])


def _faulty(frame: pd.DataFrame) -> tuple[str, ...]:
    """A line for each structure whose file is probably faulty."""
    found = ((crystal.structure_id, faults(crystal)) for crystal in table_crystals(frame))
    return tuple(f"{name}: its file is probably faulty: {', '.join(own)}" for name, own in found if own)


def _usable_rows(frame: pd.DataFrame, target: str, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows with a gap and a structure that a model can use, and why the others are left out."""
    gaps = pd.to_numeric(frame[target], errors="coerce").astype(np.float64)
    usable = gaps.between(0, MAX_GAP_EV)
    _check_gaps(gaps, usable, target, path)
    why = f"no {target} between 0 and {MAX_GAP_EV:g} eV"
    reasons = [f"{name}: {why}" for name in frame.structure_id[~usable]]
    frame = frame.assign(**{target: gaps})[usable]
    wrong = unusable(frame)
    reasons += filter(None, wrong)
    return frame[[not reason for reason in wrong]].reset_index(drop=True), reasons


def _check_gaps(gaps: pd.Series, usable: pd.Series, target: str, path: Path) -> None:
    """Refuse a column that cannot be one of gaps in eV."""
    finite = gaps[np.isfinite(gaps)]
    if unit := other_unit(finite[finite > 0].tolist()):
        raise TableError(f"{path}: {target} is not in eV: {unit}")
    if not usable.any():
        ends = f"they lie between {finite.min():g} and {finite.max():g}"
        found = ends if len(finite) else "none is a number"
        what = f"none of the {len(gaps)} values of {target} lies between 0 and {MAX_GAP_EV:g} eV"
        raise TableError(f"{path}: {what}: {found}; check the column")


def _with_split(
    frame: pd.DataFrame, column: str, seed: int, needed: Sequence[str], path: Path
) -> pd.DataFrame:
    """The table with a column ``split``: as given, or drawn."""
    given = frame.columns
    if column in given:
        frame = frame.assign(split=frame[column])
        unknown = sorted(set(map(str, frame.split)) - set(SPLITS))  # lists have no hash
        if unknown and needed:
            empty = frame.structure_id[frame.split.isna()].tolist()
            cure = f"; fill the empty cell of {empty[0]}" if empty else ""
            raise TableError(f"{path}: {column} may be {', '.join(SPLITS)}, not {unknown[0]!r}{cure}")
    else:
        frame = frame.assign(split=[_deal(name, seed) for name in group_of(frame)])
    for split in needed:
        if not (frame.split == split).any():
            dealt = "" if column in given else _few_groups(frame)
            raise TableError(f"{path}: no usable structure in split {split!r}{dealt}")
    return frame


def _few_groups(frame: pd.DataFrame) -> str:
    """Why a random split into few groups may leave a part empty."""
    n = group_of(frame).nunique()
    return (
        f": structures of one formula or refcode family stay together, here {counted(n, 'group')}. "
        "Add structures, or a column split of train, val and test"
    )


def _join(
    path: Path, cifs: Path, columns: Mapping[str, str], disorder: Disorder, max_atoms: int
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Labels joined to structures by identifier; lines on what has no partner, and on labels that repeat."""
    try:
        table = read_label_table(path, None, columns)
        # Apart from the labels, so that one structure under two names is no conflict.
        names = read_label_table(path, None, {f"?{name}": name for name in NAME_COLUMNS}).rows
    except DatasetError as error:
        raise TableError(str(error)) from error
    if not table.rows:
        raise TableError(f"{path}: no row has a name; give names and gaps below the column names")
    skipped = [f"{path.name}, row {place}: no name" for place in table.unnamed]
    skipped += [f"{name}: labelled more than once, differently" for name in sorted(table.conflicting)]
    notes = [f"{name}: labelled more than once with the same values" for name in sorted(table.repeated)]
    found: dict[str, Crystal] = {}
    for record in read_cifs(cifs, max_atoms, disorder, DEFAULT_PREPARATION):
        if isinstance(record, ReadFailure):
            if record.reason.startswith(NOWHERE):
                raise TableError(f"{record.source}: {record.reason}")
            skipped.append(f"{record.source}: {record.reason}")
            continue
        crystal, name = record.crystal, table.find(record.crystal.structure_id)
        if name in table.conflicting:
            continue
        before = found.get(name)
        if name not in table.rows:
            skipped.append(f"{crystal.source}: no label")
        elif before is None:
            found[name] = crystal
        elif name == crystal.structure_id != before.structure_id:  # the same name comes before a similar one
            skipped.append(f"{before.source}: no label")
            found[name] = crystal
        else:
            skipped.append(f"{crystal.source}: {crystal.structure_id} was read already")
    unmet = sorted(table.rows.keys() - found.keys() - table.conflicting)
    skipped += [f"{name}: labelled, but no CIF of that name was read" for name in unmet]
    if not found:
        why = "".join(f"\n{line}" for line in [*skipped[:N_SHOWN], *skipped[N_SHOWN:][-1:]])
        raise TableError(f"no label of {path} belongs to a CIF of {cifs}: they are joined by file name{why}")
    rows = (
        _row(found[name], {**names[name], **values}) for name, values in table.rows.items() if name in found
    )
    return pd.DataFrame(rows), skipped, notes


def unusable(frame: pd.DataFrame) -> list[str]:
    """Why a model cannot use each structure of a table; empty where it can."""
    return [_wrong(*row) for row in frame[["structure_id", *STRUCTURE_COLUMNS]].itertuples(index=False)]


def _wrong(structure_id: Any, cell: Any, atomic_numbers: Any, frac_coords: Any) -> str:
    try:
        if "\n" in str(structure_id):
            raise ValueError("bad-name: the name has a line break; rename the structure")
        crystal = crystal_of_row(structure_id, cell, atomic_numbers, frac_coords)
        if len(crystal.frac_coords) != len(crystal.atomic_numbers):
            return (
                f"{structure_id}: bad-coordinates: {len(crystal.frac_coords)} places for "
                f"{len(crystal.atomic_numbers)} atoms"
            )
        check_usable(crystal)
        check_apart(crystal)
    except (TypeError, ValueError) as error:
        return f"{structure_id}: {error}"
    return ""


def _row(crystal: Crystal, values: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table. Columns of the structure override those of the labels."""
    known = {column: np.nan if is_missing(value) else value for column, value in values.items()}
    return known | {"structure_id": crystal.structure_id} | crystal.columns


def _deal(name: str, seed: int) -> str:
    """A split from a hash. Adding structures to a large table changes few of the other splits."""
    draw = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4]) / 2**32
    return "train" if draw < 0.8 else "val" if draw < 0.9 else "test"
