"""Composition features with gradient boosting: what a user would try without any network.

Statistics of the elements' properties over the atoms of a structure, after the element statistics of
Ward et al., npj Comput. Mater. 2, 16028 (2016), on pymatgen's table of elements.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Element
from sklearn.ensemble import HistGradientBoostingRegressor

from mofgap.crystals.elements import MAX_Z
from mofgap.uncertainty.columns import Floats

CENTRAL = 0.6827
"""Mass of a normal distribution within one standard deviation."""

MIN_STD_EV = 1e-3
"""Where the two ends cross."""

PROPERTIES = (
    "Z",
    "atomic_mass",
    "row",
    "group",
    "mendeleev_no",
    "X",
    "electron_affinity",
    "ionization_energy",
    "atomic_radius",
    "average_ionic_radius",
    "max_oxidation_state",
    "min_oxidation_state",
    "melting_point",
    "molar_volume",
)
STATISTICS = ("mean", "mean absolute deviation", "smallest", "largest", "range", "of the most frequent")


@lru_cache(maxsize=1)
def element_table() -> Floats:
    """(MAX_Z + 1, n_properties) by atomic number; NaN where pymatgen knows nothing."""
    table = np.full((MAX_Z + 1, len(PROPERTIES)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what pymatgen does not know
        for z in range(1, MAX_Z + 1):
            table[z] = [_number(Element.from_Z(z), name) for name in PROPERTIES]
    return table


def _number(element: Element, name: str) -> float:
    try:
        value = float(getattr(element, name))
    except (AttributeError, TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def composition_features(atomic_numbers: Sequence[ArrayLike]) -> Floats:
    """Statistics of each property over the atoms, then the fraction of each element.

    Args:
        atomic_numbers: n arrays of shape (n_atoms,).

    Returns:
        (n, n_properties * n_statistics + MAX_Z).
    """
    return np.stack([_features(np.asarray(numbers, dtype=np.intp)) for numbers in atomic_numbers])


def _features(numbers: NDArray[np.intp]) -> Floats:
    share = np.bincount(numbers, minlength=MAX_Z + 1)[: MAX_Z + 1] / len(numbers)
    present = np.flatnonzero(share)
    values, weights = element_table()[present], share[present][:, None]
    known = np.isfinite(values) * weights
    total = np.where(known.sum(0) > 0, known.sum(0), np.nan)
    mean = np.nansum(values * weights, axis=0) / total
    deviation = np.nansum(np.abs(values - mean) * weights, axis=0) / total
    low = np.where(np.isfinite(values), values, np.inf).min(0)
    high = np.where(np.isfinite(values), values, -np.inf).max(0)
    low, high = np.where(np.isfinite(low), low, np.nan), np.where(np.isfinite(high), high, np.nan)
    frequent = values[np.argmax(weights[:, 0])]
    return np.concatenate([mean, deviation, low, high, high - low, frequent, share[1:]])


@dataclass(frozen=True, eq=False)
class CompositionModel:
    """Gradient boosting of the gap and of both ends of its central `CENTRAL` mass.

    Attributes:
        gap: Regressor of the absolute error's minimum, eV.
        low: Regressor of the lower end.
        high: Regressor of the upper end.
    """

    gap: HistGradientBoostingRegressor
    low: HistGradientBoostingRegressor
    high: HistGradientBoostingRegressor

    @classmethod
    def fit(cls, x: Floats, gap_ev: Floats, seed: int) -> CompositionModel:
        """Fit to (n, n_features) composition features and (n,) gaps, eV."""
        made = partial(
            HistGradientBoostingRegressor,
            max_iter=500,
            learning_rate=0.05,
            early_stopping=True,
            random_state=seed,
        )
        tail = (1 - CENTRAL) / 2
        return cls(
            made(loss="absolute_error").fit(x, gap_ev),
            made(loss="quantile", quantile=tail).fit(x, gap_ev),
            made(loss="quantile", quantile=1 - tail).fit(x, gap_ev),
        )

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """(n,) gaps and half the width of the central mass, a normal's standard deviation, both in eV."""
        half = (self.high.predict(x) - self.low.predict(x)) / 2
        return self.gap.predict(x), np.maximum(half, MIN_STD_EV)
