"""What a user would otherwise pick: the mean, composition alone, and predictions that others published."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mofgap.crystals.cif import without_ending
from mofgap.crystals.dataset import TableError, reading
from mofgap.crystals.identifier import IDENTIFIERS, id_column
from mofgap.study.config import DataConfig
from mofgap.study.dataset import Dataset, Rows
from mofgap.study.methods.composition import CompositionModel, composition_features
from mofgap.study.methods.names import kind
from mofgap.study.methods.passes import Estimates, Source, clock

Floats = NDArray[np.float64]


def the_mean(dataset: Dataset, rows: Rows) -> dict[Source, Estimates]:
    """The mean and standard deviation of the training gaps, for everything."""
    learnt, n = dataset.gap_ev[rows.train], len(rows.all)
    return {("mean", 0): Estimates(np.full(n, learnt.mean()), _nothing(n), np.full(n, learnt.std()), 0.0)}


def composition(dataset: Dataset, rows: Rows, seed: int) -> dict[Source, Estimates]:
    """Gradient boosting on the composition."""
    numbers = dataset.frame.atomic_numbers.tolist()
    model = CompositionModel.fit(
        composition_features([numbers[i] for i in rows.train]), dataset.gap_ev[rows.train], seed
    )
    read = clock()
    gap, std = model.predict(composition_features([numbers[i] for i in rows.all]))
    return {("composition", 0): Estimates(gap, _nothing(len(gap)), std, 1e3 * read() / len(gap))}


def published(data: DataConfig, dataset: Dataset, rows: Rows) -> dict[Source, Estimates]:
    """Gaps that others published, of test rows, NaN where they have none; no spread and no cost.

    Raises:
        TableError: As `published_gaps`.
    """
    found = published_gaps(data, dataset.frame.structure_id.iloc[rows.all].tolist(), needed=False)
    tested = np.array(rows.part) == "test"
    return {
        (name.removesuffix("_ev"), 0): Estimates(
            np.where(tested, gap, np.nan), _nothing(len(gap)), _nothing(len(gap)), np.nan
        )
        for name, gap in found.items()
    }


def published_gaps(data: DataConfig, ids: Sequence[str], *, needed: bool = True) -> dict[str, Floats]:
    """Gaps of structures by the columns of the published table, eV, NaN where it has none.

    Args:
        data: Names the file.
        ids: The structures.
        needed: Some of them must be there.

    Raises:
        TableError: The file cannot be read, names no structures or not these, or one twice, has no column of
            gaps, or something in one that is no number.
    """
    path = data.published
    assert path is not None
    with reading(path):
        table = pd.read_csv(path, dtype=dict.fromkeys(IDENTIFIERS, str))
        id_name = id_column(table.columns)
    methods = [name for name in table.columns if name.endswith("_ev") and name != data.target]
    if not methods:
        raise TableError(f"{path}: no column of gaps; their names end in _ev")
    table = table.set_index(table.pop(id_name).map(without_ending, na_action="ignore"))
    if table.index.has_duplicates:
        raise TableError(f"{path}: {table.index[table.index.duplicated()][0]} is there more than once")
    if needed and not table.index.isin(ids).any():
        raise TableError(f"{path}: none of its structures is in {data.table}")
    for name in methods:
        if kind(name.removesuffix("_ev")) != "published":
            raise TableError(f"{path}: {name} has the name of a method of the comparison: choose another")
    try:
        gaps = table[methods].apply(pd.to_numeric).astype(np.float64).reindex(list(ids))
        if np.isinf(gaps.to_numpy()).any():
            raise ValueError("one is infinite")
    except (TypeError, ValueError) as error:
        raise TableError(f"{path}: a gap is no number: {error}") from error
    return {name: gaps[name].to_numpy() for name in methods}


def _nothing(n: int) -> Floats:
    return np.full(n, np.nan)
