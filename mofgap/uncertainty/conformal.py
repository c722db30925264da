"""Conformal prediction: intervals and probabilities from the standardised errors of held-out rows."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from mofgap.uncertainty.columns import Floats

MIN_COVERAGE, MAX_COVERAGE = 0.5, 0.99
MIN_RESIDUALS = 19
"""Smallest number of residuals of a distribution; they give symmetric intervals of 95 % coverage."""
MIN_RESIDUALS_99 = 99
"""Smallest number of residuals for symmetric intervals of 99 % coverage."""
MIN_TAIL_RESIDUALS = 199
"""Smallest number of residuals for intervals of 99 % coverage with equal tails."""


@dataclass(frozen=True)
class Residuals:
    """The distribution of z = (reference - prediction) / std on held-out rows.

    Attributes:
        values: Sorted residuals, at least `MIN_RESIDUALS` of them. Without any, z is standard normal.

    Raises:
        ValueError: If there are ``values`` but fewer than `MIN_RESIDUALS`, or they are not finite and sorted.
    """

    values: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.values and len(self.values) < MIN_RESIDUALS:
            raise ValueError(
                f"conformal intervals need at least {MIN_RESIDUALS} residuals, not {len(self.values)}"
            )
        if not np.isfinite(self.values).all() or (np.diff(self.values) < 0).any():
            raise ValueError("residuals must be finite and sorted")

    def ends(self, coverage: float, *, equal_tails: bool) -> tuple[float, float]:
        """Both ends of an interval of at least the given coverage, in units of std.

        With equal tails they are the floor((n + 1) (1 - coverage) / 2)-th smallest and largest z. A symmetric
        interval reaches to the ceil((n + 1) coverage)-th smallest |z| on either side. The coverage of both
        holds for any distribution if old and new rows are exchangeable (split-conformal regression). Lei et
        al., J. Am. Stat. Assoc. 113, 1094 (2018); tails: Linusson et al., LNCS 8443, 224 (2014).

        Raises:
            ValueError: If ``coverage`` is not between 0.5 and 0.99, or the residuals are too few for it.
        """
        if not MIN_COVERAGE <= coverage <= MAX_COVERAGE:
            raise ValueError(f"coverage must lie between {MIN_COVERAGE} and {MAX_COVERAGE}, not {coverage}")
        if not self.values:
            half = float(ndtri((1 + coverage) / 2))
            return -half, half
        n, n_tails = len(self.values), 2 if equal_tails else 1
        # Rank of the end, counted from outside. Rounding must not turn 1 into 0.999...
        rank = math.floor((n + 1) * (1 - coverage) / n_tails + 1e-9)
        if rank < 1:
            most = math.floor(100 * (n + 1 - n_tails) / (n + 1))
            raise ValueError(
                f"{n} residuals give intervals of at most {most} % coverage; ask for less, or add structures"
            )
        if equal_tails:
            return self.values[rank - 1], self.values[n - rank]
        half = float(np.sort(np.abs(self.values))[n - rank])
        return -half, half

    def cdf(self, z: npt.ArrayLike) -> Floats:
        """P(residual <= z), of the shape of z; NaN where z is.

        The i-th of n sorted residuals has the value i / (n + 1), with straight lines between them (conformal
        predictive distribution; Vovk et al., Mach. Learn. 108, 445 (2019)). The theory leaves open how the
        probability 1 / (n + 1) beyond either end is distributed. Here it decays exponentially over one std.
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
