"""Labelled structures from a parquet table, or from a CSV of labels and a folder of CIFs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mofgap.crystals.cif import MAX_ATOMS, ReadFailure, stem_of, without_ending
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import STRUCTURE_COLUMNS, TableError, crystal_of_row, read_table, reading
from mofgap.crystals.disorder import Disorder
from mofgap.crystals.inputs import InputItem, expand_inputs, read_input
from mofgap.crystals.unit_cell import check_usable
from mofgap.datasets.groups import group_of
from mofgap.nearest import hint

SPLITS = ("train", "val", "test")
LABEL_IDS = ("structure_id", "qmof_id", "file", "name", "id")
"""Columns a CSV may name its structures by, the first that is there."""

N_SHOWN = 5
"""Reasons told where nothing at all could be read."""


@dataclass(frozen=True, eq=False)
class Labels:
    """A table of structures with gaps and splits.

    Attributes:
        frame: ``structure_id``, ``cell_angstrom``, ``atomic_numbers``, ``frac_coords``, the label and
            ``split`` (train, val or test).
        target: Name of the label's column, eV.
        skipped: One line for each structure or label that was left out, and why.
    """

    frame: pd.DataFrame
    target: str
    skipped: tuple[str, ...]

    @property
    def families(self) -> list[str]:
        """What stays together where structures are dealt out, for each row.

        Those of one ``group``, where there is such a column, as ``mofgap data import`` writes it.
        """
        return group_of(self.frame).tolist()

    def positions(self, split: str) -> list[int]:
        """Rows of a split."""
        return np.flatnonzero(self.frame.split == split).tolist()


def read_labels(
    path: Path,
    cifs: Path | None,
    target: str,
    *,
    split_column: str = "split",
    seed: int = 0,
    needed: Sequence[str] = ("train", "val"),
    few: int = 0,
    disorder: Disorder = "refuse",
    max_atoms: int = MAX_ATOMS,
) -> Labels:
    """Read labelled structures.

    Args:
        path: A parquet table of structures and labels, or a CSV of labels.
        cifs: Folder or archive of the CIFs a CSV's labels belong to; joined by file name or data block.
        target: Column of the gaps, eV.
        split_column: Column of ``train``/``val``/``test``; where there is no column ``split`` and no other
            is named, structures are dealt 80/10/10 by a hash of `Labels.families` and seed.
        seed: Of that deal.
        needed: Splits that must not be empty.
        few: Fewer structures than this are not dealt out: all go to ``train``.
        disorder: What to do about partial occupancies in CIFs.
        max_atoms: Largest cell of a CIF that is accepted.

    Raises:
        TableError: Naming the file and what is missing.
    """
    if path.suffix == ".parquet":
        if cifs is not None:
            raise TableError(f"{path} holds structures itself; a folder of CIFs goes with a CSV of labels")
        frame, skipped = read_table(path), list[str]()
    elif cifs is None:
        raise TableError(f"{path} holds labels only: name the folder of their CIFs too")
    else:
        frame, skipped = _join(path, cifs, disorder, max_atoms)
    _check_column(target, frame, path)
    if split_column != "split":
        _check_column(split_column, frame, path)
    gaps = pd.to_numeric(frame[target], errors="coerce")
    usable = np.isfinite(gaps) & (gaps >= 0)
    skipped += [f"{name}: no {target} of at least 0 eV" for name in frame.structure_id[~usable]]
    frame = frame.assign(**{target: gaps})[usable]
    wrong = [_wrong(*row) for row in frame[["structure_id", *STRUCTURE_COLUMNS]].itertuples(index=False)]
    skipped += filter(None, wrong)
    frame = frame[[not reason for reason in wrong]].reset_index(drop=True)
    if split_column in frame.columns:
        frame = frame.assign(split=frame[split_column])
        unknown = sorted(map(str, set(frame.split) - set(SPLITS)))
        if unknown and needed:
            raise TableError(f"{path}: {split_column} may be {', '.join(SPLITS)}, not {unknown[0]!r}")
    elif len(frame) < few:
        frame, needed = frame.assign(split="train"), ("train",)
    else:
        frame = frame.assign(split=[_deal(name, seed) for name in group_of(frame)])
    for split in needed:
        if not (frame.split == split).any():
            raise TableError(f"{path}: no usable structure in split {split!r}")
    return Labels(frame, target, tuple(skipped))


def _check_column(name: str, frame: pd.DataFrame, path: Path) -> None:
    if name not in frame.columns:
        raise TableError(f"{path}: no column {name!r}; {hint(name, frame.columns)}")


def _join(path: Path, cifs: Path, disorder: Disorder, max_atoms: int) -> tuple[pd.DataFrame, list[str]]:
    """Labels of a CSV joined to structures by identifier; whatever finds no partner is listed."""
    with reading(path):
        labels = pd.read_csv(path, dtype=dict.fromkeys(LABEL_IDS, str))
    id_column = next((name for name in LABEL_IDS if name in labels.columns), None)
    if id_column is None:
        raise TableError(f"{path}: no identifier column; expected one of {', '.join(LABEL_IDS)}")
    labels["structure_id"] = labels[id_column].fillna("").map(without_ending)
    nameless = labels.structure_id == ""
    skipped = [f"{path.name}, row {row + 1}: no {id_column}" for row in np.flatnonzero(nameless)]
    labels = labels[~nameless]
    repeated = labels.structure_id[labels.structure_id.duplicated()]
    if len(repeated):
        raise TableError(f"{path}: {repeated.iloc[0]} is labelled more than once")
    wanted, rows = set(labels.structure_id), {}
    for item in expand_inputs([str(cifs)]):
        entries = (
            read_input(item, disorder=disorder, max_atoms=max_atoms)
            if isinstance(item, InputItem)
            else [item]
        )
        for entry in entries:
            if isinstance(entry, ReadFailure):
                skipped.append(f"{entry.source}: {entry.reason}")
                continue
            name = entry.structure_id if entry.structure_id in wanted else stem_of(entry.source)
            if name not in wanted:
                skipped.append(f"{entry.source}: no label")
            elif name in rows:
                skipped.append(f"{entry.source}: {name} was read already")
            else:
                rows[name] = _row(name, entry)
    skipped += [f"{name}: labelled, but no CIF of that name was read" for name in sorted(wanted - set(rows))]
    if not rows:
        why = "".join(f"\n{line}" for line in skipped[:N_SHOWN])
        raise TableError(f"no label of {path} belongs to a CIF of {cifs}: they are joined by file name{why}")
    structures = pd.DataFrame(list(rows.values()))
    return labels.drop(columns=list(structures.columns.drop("structure_id")), errors="ignore").merge(
        structures, on="structure_id"
    ), skipped


def _wrong(structure_id: Any, cell: Any, atomic_numbers: Any, frac_coords: Any) -> str:
    """Why a model cannot compute with a structure of a table; nothing where it can."""
    try:
        crystal = crystal_of_row(structure_id, cell, atomic_numbers, frac_coords)
        if len(crystal.frac_coords) != len(crystal.atomic_numbers):
            return (
                f"{structure_id}: bad-coordinates: {len(crystal.frac_coords)} places for "
                f"{len(crystal.atomic_numbers)} atoms"
            )
        check_usable(crystal)
    except (TypeError, ValueError) as error:
        return f"{structure_id}: {error}"
    return ""


def _row(name: str, crystal: Crystal) -> dict[str, object]:
    return {
        "structure_id": name,
        "cell_angstrom": crystal.cell.ravel(),
        "atomic_numbers": crystal.atomic_numbers,
        "frac_coords": crystal.frac_coords.ravel(),
    }


def _deal(name: str, seed: int) -> str:
    """A split from a hash, so that adding structures to a large table moves none of the others."""
    draw = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4]) / 2**32
    return "train" if draw < 0.8 else "val" if draw < 0.9 else "test"
