"""Conformal: what standardised errors of the past promise about the next one."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from mofgap.uncertainty.columns import Floats

MIN_COVERAGE, MAX_COVERAGE = 0.5, 0.99
MIN_ROWS = 99
"""Residuals that an interval of 99 % coverage needs to be finite."""
FEWEST_ROWS = 19
"""Fewest residuals of any use: they give intervals of at most 95 % coverage."""


@dataclass(frozen=True)
class Residuals:
    """The distribution of z = (reference - prediction) / std, as seen on rows kept for the purpose.

    Attributes:
        values: Sorted residuals, at least `FEWEST_ROWS` of them; none at all means a standard normal.
    """

    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.values and len(self.values) < FEWEST_ROWS:
            raise ValueError(
                f"conformal intervals need at least {FEWEST_ROWS} residuals, not {len(self.values)}"
            )
        if not np.isfinite(self.values).all() or (np.diff(self.values) < 0).any():
            raise ValueError("residuals must be finite and sorted")

    def half_width(self, coverage: float) -> float:
        """The half-width in units of std of a symmetric interval of at least the given coverage.

        The ceil((n + 1) coverage)-th smallest |z|: split-conformal regression, valid for any distribution as
        long as old and new rows are exchangeable. Lei et al., J. Am. Stat. Assoc. 113, 1094 (2018).

        Raises:
            ValueError: ``coverage`` is not between 0.5 and 0.99, or above n / (n + 1) for n residuals.
        """
        if not MIN_COVERAGE <= coverage <= MAX_COVERAGE:
            raise ValueError(f"coverage must lie between {MIN_COVERAGE} and {MAX_COVERAGE}, not {coverage}")
        if not self.values:
            return float(ndtri((1 + coverage) / 2))
        # Less a hair, so that 0.9 * 110 is 99 and not one more.
        rank = math.ceil((len(self.values) + 1) * coverage - 1e-9)
        if rank > len(self.values):
            most = math.floor(100 * len(self.values) / (len(self.values) + 1))
            raise ValueError(f"{len(self.values)} residuals give intervals of at most {most} % coverage")
        return float(np.sort(np.abs(self.values))[rank - 1])

    def cdf(self, z: npt.ArrayLike) -> Floats:
        """P(residual <= z), the same shape as z; NaN where z is.

        The i-th of n sorted residuals has the value i / (n + 1), with straight lines between them (conformal
        predictive distribution; Vovk et al., Mach. Learn. 108, 445 (2019)). Of the 1 / (n + 1) beyond either
        end the theory does not say where it lies; here it decays exponentially over one std.
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
