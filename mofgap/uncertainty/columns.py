"""Columns: equally long one-dimensional arrays of finite numbers, checked once at the door."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def columns(**named: npt.ArrayLike) -> list[Floats]:
    """Check and convert named columns, in the order given.

    A name that ends in ``_std`` is a standard deviation and may not be negative.

    Args:
        **named: Array-likes of shape (n,), n may be 0.

    Returns:
        The columns as float64 arrays of shape (n,).

    Raises:
        ValueError: A column is not one-dimensional, its length differs from the first one's, it holds a NaN
            or an infinity, or it is a negative standard deviation.
    """
    checked: dict[str, Floats] = {}
    for name, values in named.items():
        column = np.asarray(values, dtype=np.float64)
        if column.ndim != 1:
            raise ValueError(f"{name} must be one-dimensional, its shape is {column.shape}")
        for first, other in checked.items():
            if len(other) != len(column):
                raise ValueError(f"{name} has {len(column)} values but {first} has {len(other)}")
        if not np.isfinite(column).all():
            raise ValueError(f"{name} holds {int((~np.isfinite(column)).sum())} NaN or infinite values")
        if name.endswith("_std") and (column < 0).any():
            raise ValueError(f"{name} holds {int((column < 0).sum())} negative standard deviations")
        checked[name] = column
    return list(checked.values())
