"""Scaling: factors that fit a model's spread to the size of its errors."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mofgap.uncertainty.columns import Floats

MIN_FLOOR_EV = 1e-3
"""Smallest fitted floor, eV, so that errors can be divided by the spread."""


@dataclass(frozen=True)
class Scaling:
    """std = sqrt((epistemic * epistemic_std)^2 + (aleatoric * aleatoric_std)^2 + floor_ev^2).

    Variances of independent causes add, each with a separate factor. The result grows with both parts and has
    no ties unless a factor is zero, so it can rank structures. Isotonic regression of the total spread on 20
    quantile bins is no better (a forest on compositions, 2,029 QMOF validation rows, 5 folds). Its CRPS is
    0.363 eV against 0.362 here, its Spearman of std and |error| 0.24 against 0.33: it has steps and cannot
    weight the parts.

    Attributes:
        epistemic: Factor of the epistemic standard deviation.
        aleatoric: Factor of the aleatoric standard deviation.
        floor_ev: Spread in eV if both parts are zero.

    Raises:
        ValueError: If a factor or the floor is negative or not finite.
    """

    epistemic: float = 1.0
    aleatoric: float = 1.0
    floor_ev: float = 0.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(v) and v >= 0 for v in (self.epistemic, self.aleatoric, self.floor_ev)):
            raise ValueError(f"a scaling needs finite factors of at least 0, not {self}")

    def __call__(self, epistemic_std: npt.ArrayLike, aleatoric_std: npt.ArrayLike) -> Floats:
        """The scaled total standard deviation in eV, shape (n,); NaN where either part is.

        Raises:
            ValueError: If the columns ``epistemic_std`` and ``aleatoric_std`` differ in shape, or one holds a
                negative value.
        """
        epistemic = np.asarray(epistemic_std, dtype=np.float64)
        aleatoric = np.asarray(aleatoric_std, dtype=np.float64)
        if epistemic.shape != aleatoric.shape:
            raise ValueError(f"the parts of a spread differ in shape: {epistemic.shape}, {aleatoric.shape}")
        if (epistemic < 0).any() or (aleatoric < 0).any():
            raise ValueError("a standard deviation is negative")
        return np.sqrt(
            (self.epistemic * epistemic) ** 2 + (self.aleatoric * aleatoric) ** 2 + self.floor_ev**2
        )


def fit_scaling(error: Floats, epistemic_std: Floats, aleatoric_std: Floats) -> Scaling:
    """The scaling that minimises the mean CRPS of N(0, std^2) over the rows.

    The CRPS grows linearly with an error, the negative log-likelihood with its square. So a few large errors
    do not widen every error bar. The search starts from equal shares of the variance. A part that is zero in
    all rows keeps the factor 1.

    Args:
        error: Reference minus prediction in eV, shape (n,).
        epistemic_std: In eV, shape (n,).
        aleatoric_std: In eV, shape (n,).
    """
    from scipy.optimize import minimize  # a prediction does not need these imports

    from mofgap.uncertainty.metrics import gaussian_crps

    parts = np.stack([epistemic_std**2, aleatoric_std**2, np.ones_like(error)])
    typical = parts.mean(axis=1)
    absent = typical == 0
    typical[absent] = 1.0
    parts = parts / typical[:, None]
    scale = max(float(np.mean(error**2)), MIN_FLOOR_EV**2)
    size = np.abs(error) / np.sqrt(scale)

    def loss(shares: Floats) -> tuple[float, Floats]:
        std = np.sqrt(shares @ parts)
        score, slope = gaussian_crps(size, std)
        return float(score.mean()), (parts * slope / (2 * std)).mean(axis=1)

    bounds = [(0.0, None), (0.0, None), (MIN_FLOOR_EV**2 / scale, None)]
    shares = minimize(loss, np.full(3, 1 / 3), jac=True, method="L-BFGS-B", bounds=bounds).x
    factors = np.where(absent, 1.0, np.sqrt(shares * scale / typical))
    return Scaling(*map(rounded, factors))


def rounded(value: float) -> float:
    """Six significant digits, which keep the file short."""
    return float(f"{value:.6g}")
