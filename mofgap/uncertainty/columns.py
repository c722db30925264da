"""Columns: one-dimensional arrays of finite numbers and equal length, checked once."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


def columns(**named: npt.ArrayLike) -> list[Floats]:
    """Check and convert named columns.

    A column whose name ends in ``_std`` holds standard deviations. They may not be negative.

    Args:
        **named: Array-likes of shape (n,); n may be 0.

    Returns:
        The columns as float64 arrays of shape (n,), in the order of the arguments.

    Raises:
        ValueError: If a column is not one-dimensional, differs in length from the first one, or holds NaN,
            infinity, or a negative standard deviation.
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


def check_level(level: float) -> None:
    """Refuse a nominal coverage that is not between 0 and 1.

    Raises:
        ValueError: If ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level}")
