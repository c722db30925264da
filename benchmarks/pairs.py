"""Files of CoRE MOF beside the relaxed structures of the same refcode and formula."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.corpus import core_mof
from benchmarks.measure import at_most
from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import table_crystals

SETS = ("2019-ASR", "2019-FSR", "2014")
"""Where several files belong to a row, the first of the first of these sets is taken."""
MANY_ATOMS = 5000


@dataclass(eq=False)
class Pairs:
    """Structures that are known raw and relaxed.

    Attributes:
        raw: As the files have them.
        relaxed: The rows of the table.
        gap_ev: (n,) their reference gaps.
        n_skipped: Files that give no structure.
    """

    raw: list[Crystal] = field(default_factory=list)
    relaxed: list[Crystal] = field(default_factory=list)
    gap_ev: list[float] = field(default_factory=list)
    n_skipped: int = 0


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Add ``--pairs``."""
    parser.add_argument("--pairs", type=Path, required=True, help="CSV of files and rows of one refcode")


def read_pairs(frame: pd.DataFrame, path: Path, target: str, limit: int | None = None) -> Pairs:
    """The rows of a table that have a file, beside it.

    Args:
        frame: Labelled rows.
        path: The file of ``--pairs``.
        target: Column of the reference gaps, eV.
        limit: Take so many rows at most, chosen at random.
    """
    names = _one_file_each(pd.read_csv(path))
    frame = at_most(frame[frame.structure_id.isin(names.index)], limit)
    names = names.loc[frame.structure_id]
    wanted = set(names.core_set + "/" + names.core_file)
    files = {name: data for name, data in core_mof() if name in wanted}
    pairs = Pairs()
    order = zip(names.core_set, names.core_file, table_crystals(frame), frame[target], strict=True)
    for core_set, name, relaxed, gap_ev in order:
        data = files.get(f"{core_set}/{name}", b"")
        entry = read_cif_bytes(data, name, max_atoms=MANY_ATOMS)[0]
        if not isinstance(entry, Crystal):
            pairs.n_skipped += 1
            continue
        pairs.raw.append(entry)
        pairs.relaxed.append(relaxed)
        pairs.gap_ev.append(float(gap_ev))
    return pairs


def _one_file_each(table: pd.DataFrame) -> pd.DataFrame:
    """One file for each row: of the same formula, from the first of `SETS` that has one."""
    table = table[table.same_formula & table.core_set.isin(SETS)]
    order = table.core_set.map(SETS.index)
    table = table.assign(order=order).sort_values(["qmof_id", "order", "core_file"])
    return table.drop_duplicates("qmof_id").set_index("qmof_id")
