"""Which rows each split learns from and predicts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mofgap.crystals.dataset import TableError
from mofgap.crystals.elements import atomic_number
from mofgap.datasets.groups import group_of
from mofgap.study.config import SplitConfig
from mofgap.training.labels import SPLITS

PARTS = (*SPLITS, "left_out")
UNUSED = ""


def order(ids: Sequence[str], seed: int) -> NDArray[np.intp]:
    """A shuffle by the hash of each id, so that fewer rows are always some of the more."""
    return np.array(sorted(range(len(ids)), key=lambda i: _hash(ids[i], seed)), dtype=np.intp)


def assign(frame: pd.DataFrame, split: SplitConfig, seed: int) -> pd.Series:
    """The part of each row: one of `PARTS`, or `UNUSED`.

    Args:
        frame: ``structure_id``, ``atomic_numbers`` and the columns that the split names.
        split: What is wanted.
        seed: Seed of a grouped split.

    Raises:
        TableError: If a column is missing, holds a part other than train, val and test, or a part of the
            split is empty.
    """
    for name in (split.column, *([split.group] if split.kind == "grouped" else [])):
        if name not in frame.columns:
            raise TableError(f"no column {name!r}, which a split needs")
    named = frame[split.column]
    unknown = set(named) - set(SPLITS)
    if unknown:
        raise TableError(f"{split.column} may be {', '.join(SPLITS)}, not {min(map(str, unknown))!r}")
    if split.kind == "grouped":
        sizes = {"test": split.n_test or int((named == "test").sum()), "val": int((named == "val").sum())}
        part = _grouped(group_of(frame, split.group), sizes, seed)
    elif split.kind == "without":
        part = _without(frame, named, str(split.element))
    else:
        part = named.astype(str)
    wanted = PARTS if split.kind == "without" else SPLITS
    for name in wanted:
        if not (part == name).any():
            why = f": no structure holds {split.element}" if name == "left_out" else f" of {len(part)}"
            raise TableError(f"a split of kind {split.kind} leaves no structure for {name}{why}")
    return part


def _grouped(group: pd.Series, sizes: dict[str, int], seed: int) -> pd.Series:
    """Deal whole groups to test, then val, until each has its number of rows; the others are train's.

    A group that no longer fits is left to the next part, so that with some groups of one the sizes are met.
    """
    part = pd.Series("train", index=group.index)
    rows = {str(name): found for name, found in group.groupby(group).groups.items()}
    left = sorted(rows, key=lambda name: _hash(name, seed))
    for target, room in sizes.items():
        later = []
        for name in left:
            if len(rows[name]) <= room:
                part[rows[name]] = target
                room -= len(rows[name])
            else:
                later.append(name)
        left = later
    return part


def _without(frame: pd.DataFrame, named: pd.Series, element: str) -> pd.Series:
    """Rows with the element are left out of everything but a test of their own."""
    number = atomic_number(element)
    holds = frame.atomic_numbers.map(lambda numbers: number in numbers)
    return named.astype(str).where(~holds, "left_out")


def _hash(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {name}".encode()).digest()
