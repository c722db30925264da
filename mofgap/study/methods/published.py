"""Predictions that others published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mofgap.study.config import ComparisonConfig, DataConfig
from mofgap.study.methods.method import (
    Estimated,
    Estimates,
    Estimator,
    Method,
    PredictionTask,
    method_with,
)
from mofgap.study.planned import Prediction

if TYPE_CHECKING:
    from mofgap.uncertainty.columns import Floats


class Published(Method):
    """Gaps of others, in a table that the configuration names; a column is an estimator.

    `estimators` are those with a label of their own.
    """

    estimators = (
        Estimator("alignn", "ALIGNN (published)", has_spread=False),
        Estimator("matminer_xgboost", "matminer + XGBoost (published)", has_spread=False),
        Estimator("matminer_rf", "matminer + random forest (published)", has_spread=False),
    )
    kind = "published"

    def check_structures(self, config: ComparisonConfig, ids: Sequence[str]) -> None:
        """Refuse a published table that the comparison cannot use.

        Raises:
            TableError: If the published table cannot be read, has a gap that is not a finite number, or names
                none of the structures ``ids``.
        """
        if config.data.published is not None:
            published_gaps(config.data, ids)

    def predictions(self, config: ComparisonConfig, split: str) -> Iterator[Prediction]:
        """One for each split whose test rows are those of the table."""
        if config.data.published is not None and config.splits[split].kind == "column":
            yield Prediction(split, self.name)

    def predict(self, task: PredictionTask) -> Estimated:
        """The published gaps of test rows, NaN where there is none; no spread and no cost."""
        import numpy as np

        ids = task.dataset.frame.structure_id.iloc[task.rows.all].tolist()
        tested, none = np.array(task.rows.part) == "test", np.full(len(ids), np.nan)
        return {
            (name.removesuffix("_ev"), 0): Estimates(np.where(tested, gap, np.nan), none, none, np.nan)
            for name, gap in published_gaps(task.config.data, ids, needed=False).items()
        }


def published_gaps(data: DataConfig, ids: Sequence[str], *, needed: bool = True) -> dict[str, Floats]:
    """Gaps of structures by the columns of the published table, in eV; NaN where the table has no gap.

    Some of them must be there if they are ``needed``.

    Raises:
        TableError: If the published table cannot be read, lacks a column of names or gaps, lists a structure
            twice, or names none of ``ids``. It is also raised if a gap is not a finite number, or a column
            has the name of a compared method.
    """
    import numpy as np
    import pandas as pd

    from mofgap.crystals.dataset import TableError, reading
    from mofgap.crystals.formats import without_ending
    from mofgap.crystals.identifier import IDENTIFIERS, id_column

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
        if method_with(name.removesuffix("_ev")).kind != "published":
            raise TableError(f"{path}: {name} has the name of a method of the comparison: choose another")
    try:
        gaps = table[methods].apply(pd.to_numeric).astype(np.float64).reindex(list(ids))
        if np.isinf(gaps.to_numpy()).any():
            raise ValueError("one is infinite")
    except (TypeError, ValueError) as error:
        raise TableError(f"{path}: a gap is no number: {error}") from error
    return {name: gaps[name].to_numpy() for name in methods}
