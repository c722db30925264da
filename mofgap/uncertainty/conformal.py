"""Conformal: intervals and probabilities from the standardised errors of rows that were kept back."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from mofgap.uncertainty.columns import Floats

MIN_COVERAGE, MAX_COVERAGE = 0.5, 0.99
MIN_RESIDUALS = 19
"""Fewest residuals of a distribution; they give intervals of 95 % coverage."""
MIN_RESIDUALS_99 = 99
"""Fewest residuals that give intervals of 99 % coverage."""


@dataclass(frozen=True)
class Residuals:
    """The distribution of z = (reference - prediction) / std on rows that were kept back.

    Attributes:
        values: Sorted residuals, at least `MIN_RESIDUALS` of them; none at all means a standard normal.

    Raises:
        ValueError: The ``values`` are not empty but fewer than `MIN_RESIDUALS`, or are not finite and sorted.
    """

    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.values and len(self.values) < MIN_RESIDUALS:
            raise ValueError(
                f"conformal intervals need at least {MIN_RESIDUALS} residuals, not {len(self.values)}"
            )
        if not np.isfinite(self.values).all() or (np.diff(self.values) < 0).any():
            raise ValueError("residuals must be finite and sorted")

    def half_width(self, coverage: float) -> float:
        """The half-width of a symmetric interval of at least the given coverage, in units of std.

        It is the ceil((n + 1) coverage)-th smallest |z| (split-conformal regression). The coverage holds for
        any distribution if old and new rows are exchangeable. Lei et al., J. Am. Stat. Assoc. 113, 1094
        (2018).

        Raises:
            ValueError: The ``coverage`` is not between 0.5 and 0.99, or is above n / (n + 1) for n residuals.
        """
        if not MIN_COVERAGE <= coverage <= MAX_COVERAGE:
            raise ValueError(f"coverage must lie between {MIN_COVERAGE} and {MAX_COVERAGE}, not {coverage}")
        if not self.values:
            return float(ndtri((1 + coverage) / 2))
        # Rounding may lift (n + 1) * coverage just above a whole number, which costs no further rank.
        rank = math.ceil((len(self.values) + 1) * coverage - 1e-9)
        if rank > len(self.values):
            most = math.floor(100 * len(self.values) / (len(self.values) + 1))
            raise ValueError(f"{len(self.values)} residuals give intervals of at most {most} % coverage")
        return float(np.sort(np.abs(self.values))[rank - 1])

    def cdf(self, z: npt.ArrayLike) -> Floats:
        """P(residual <= z), the same shape as z; NaN where z is.

        The i-th of n sorted residuals has the value i / (n + 1), with straight lines between them (conformal
        predictive distribution; Vovk et al., Mach. Learn. 108, 445 (2019)). The theory does not say how the
        1 / (n + 1) beyond either end is distributed. Here its density decays exponentially over one std.
        """
        z = np.asarray(z, dtype=np.float64)
        if not self.values:
            return np.asarray(ndtr(z), dtype=np.float64)
        n = len(self.values)
        inside: Floats = np.interp(z, self.values, np.arange(1, n + 1) / (n + 1))
        below = np.exp(np.minimum(z - self.values[0], 0))
        above = np.exp(np.minimum(self.values[-1] - z, 0))
        cdf: Floats = inside + (below - above) / (n + 1)
        return cdf
