"""What a plot draws: columns given as arrays or names, one spread or one for each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mofgap.counts import counted
from mofgap.uncertainty.columns import Floats

Column = npt.ArrayLike | str
"""Values of shape (n,), or the name of a column of ``df``."""
Columns = Column | Mapping[str, Column]
"""One column, or one for each method."""


@dataclass(frozen=True, eq=False)
class Series:
    """The rows of one method that have all their values.

    Attributes:
        name: Name of the method; empty where there is one only.
        true: Reference values, shape (n,).
        pred: Predictions, shape (n,).
        std: Standard deviations, shape (n,).
        n_left_out: Rows that lack a value.
    """

    name: str
    true: Floats
    pred: Floats
    std: Floats
    n_left_out: int

    @property
    def error(self) -> Floats:
        """|prediction - reference|, shape (n,)."""
        return np.abs(self.pred - self.true)

    @property
    def label(self) -> str:
        """The name as the start of a legend entry."""
        return f"{self.name}: " if self.name else ""


def series(y_true: Column, y_pred: Columns, y_std: Columns, df: pd.DataFrame | None) -> list[Series]:
    """The series of a plot, one for each method, rows without a value left out.

    Args:
        y_true: Reference values.
        y_pred: Predictions; one column for all methods, or one for each.
        y_std: Standard deviations, one column or one for each method.
        df: Where names are looked up.

    Raises:
        ValueError: If the columns differ in length, a standard deviation is negative, or a method has no
            prediction.
        KeyError: If ``df`` lacks a named column.
    """
    spreads = dict(y_std) if isinstance(y_std, Mapping) else {"": y_std}
    out = []
    for name, spread in spreads.items():
        if isinstance(y_pred, Mapping) and name not in y_pred:
            raise ValueError(f"y_std has a method {name!r} that y_pred lacks")
        column = y_pred[name] if isinstance(y_pred, Mapping) else y_pred
        (true, pred, std), n_left_out = complete(df, y_true=y_true, y_pred=column, y_std=spread)
        if (std < 0).any():
            raise ValueError(f"y_std holds {int((std < 0).sum())} negative standard deviations")
        out.append(Series(str(name), true, pred, std, n_left_out))
    return out


def complete(df: pd.DataFrame | None, **columns: Column) -> tuple[list[Floats], int]:
    """Columns as float64 arrays of the rows where all are finite, and how many rows are not.

    Raises:
        ValueError: If a column is not one-dimensional, the columns differ in length, or the name of a column
            is given without ``df``.
        KeyError: If ``df`` lacks a named column.
    """
    arrays = {name: floats(column, df) for name, column in columns.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"columns must be one-dimensional and equally long: {found}")
    whole = np.logical_and.reduce([np.isfinite(array) for array in arrays.values()])
    return [array[whole] for array in arrays.values()], int((~whole).sum())


def drawn_words(n: int, n_left_out: int, noun: str = "structure") -> str:
    """``1,234 structures`` and, if there are any, how many were left out."""
    return counted(n, noun) + (f" ({n_left_out:,} without a value left out)" if n_left_out else "")


def texts(column: Column, df: pd.DataFrame | None) -> list[str]:
    """A column as texts.

    Raises:
        ValueError: If the name of a column is given without ``df``.
        KeyError: If ``df`` lacks a named column.
    """
    return list(map(str, np.asarray(_values(column, df), dtype=object)))


def floats(column: Column, df: pd.DataFrame | None) -> Floats:
    """A column as float64; NaN where a value is missing.

    Raises:
        ValueError: If the name of a column is given without ``df``, or a value is not a number.
        KeyError: If ``df`` lacks a named column.
    """
    column = _values(column, df)
    if isinstance(column, pd.Series):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(column, dtype=np.float64)


def _values(column: Column, df: pd.DataFrame | None) -> Column:
    """A column itself, where its name is given."""
    if not isinstance(column, str):
        return column
    if df is None:
        raise ValueError(f"{column!r} names a column, but there is no df")
    return df[column]
