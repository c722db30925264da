"""Labelled crystals: tables read from parquet, and their graphs cached on disk.

The graphs of a table are written once as safetensors, named by the hash of everything that shaped them.
Damaged ones are computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mofgap.checked_tensors import read_tensors, write_tensors
from mofgap.counts import counted
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import GraphConfig
from mofgap.crystals.identifier import id_column
from mofgap.crystals.store import GraphStore, build_store
from mofgap.whole_file import why_missing

CACHE_VERSION = 2
STRUCTURE_COLUMNS = ("cell_angstrom", "atomic_numbers", "frac_coords")


class TableError(ValueError):
    """A table of structures that cannot be used, and why."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While open, a table that cannot be read is a `TableError` with the file's name and the reason."""
    if why := why_missing(path):
        raise TableError(f"{path}: {why}")
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TableError(f"{path}: {reason}") from error


def read_table(path: Path) -> pd.DataFrame:
    """Read a parquet table of structures.

    Args:
        path: A parquet file with a column of `IDENTIFIERS`, ``cell_angstrom`` (9 values, rows a, b, c),
            ``atomic_numbers`` (n), ``frac_coords`` (3 n) and any labels.

    Returns:
        The table, its identifiers as text in the column ``structure_id``.

    Raises:
        TableError: If the file ``path`` cannot be read, lacks a column, or has rows with no identifier or a
            repeated one.
    """
    with reading(path):
        frame = _of_parquet(path)
        id_name = id_column(frame.columns)
    missing = [name for name in STRUCTURE_COLUMNS if name not in frame.columns]
    if missing:
        raise TableError(
            f"{path}: missing column(s) {', '.join(missing)}; mofgap data import makes such a table"
        )
    frame = frame.rename(columns={id_name: "structure_id"})
    if unnamed := int((frame.structure_id.isna() | (frame.structure_id == "")).sum()):
        raise TableError(f"{path}: {counted(unnamed, 'row')} without {id_name}; name each")
    frame["structure_id"] = frame.structure_id.astype(str)
    repeated = frame.structure_id[frame.structure_id.duplicated()]
    if len(repeated):
        n = counted(len(repeated), "repeated identifier")
        raise TableError(f"{path}: {n}, the first is {repeated.iloc[0]}")
    return frame


def _of_parquet(path: Path) -> pd.DataFrame:
    """A table of parquet, in a file or in the files of a folder."""
    if path.is_dir() and not any(path.rglob("*.parquet")):
        raise ValueError("is a folder; name a parquet table")
    if path.is_file() and not path.stat().st_size:
        raise ValueError("the file is empty; make it again")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        if getattr(error, "strerror", None):  # of the system
            raise
        raise ValueError("no parquet table, or a damaged one; make it again") from error


def table_crystals(frame: pd.DataFrame) -> Iterator[Crystal]:
    """Yield the structures of a table in order."""
    columns = ["structure_id", *STRUCTURE_COLUMNS]
    return (crystal_of_row(*row) for row in frame[columns].itertuples(index=False))


def crystal_of_row(structure_id: Any, cell: Any, atomic_numbers: Any, frac_coords: Any) -> Crystal:
    """The structure of an identifier and the values of `STRUCTURE_COLUMNS`.

    Raises:
        ValueError: If the number of values of ``cell`` or ``frac_coords`` is none that it can have, or an
            argument holds a text that is not a number. That there is a place for each atom is not checked.
        TypeError: If an argument holds an object that cannot become a number.
    """
    return Crystal(
        cell=np.asarray(cell, dtype=np.float64).reshape(3, 3),
        frac_coords=np.asarray(frac_coords, dtype=np.float64).reshape(-1, 3),
        atomic_numbers=np.asarray(atomic_numbers, dtype=np.int64),
        structure_id=str(structure_id),
    )


def cached_store(frame: pd.DataFrame, config: GraphConfig, cache: Path | None) -> GraphStore:
    """Graphs of a table, from the cache where they lie there undamaged.

    Args:
        frame: A table as ``read_table`` gives it.
        config: K and the cutoff.
        cache: Folder of cached graphs, or None to keep nothing.
    """
    if cache is None:
        return build_store(table_crystals(frame), config)
    path = cache / f"graphs-{_fingerprint(frame, config)}.safetensors"
    if (tensors := read_tensors(path)) is not None:
        return GraphStore(**tensors)
    store = build_store(table_crystals(frame), config)
    write_tensors(path, store.arrays)
    return store


def _fingerprint(frame: pd.DataFrame, config: GraphConfig) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION} {sorted(asdict(config).items())}".encode())
    for crystal in table_crystals(frame):
        digest.update(crystal.content)
    return digest.hexdigest()[:16]
