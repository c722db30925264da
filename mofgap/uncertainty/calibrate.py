"""Calibrate: from a model's raw spread to error bars that hold what they say."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mofgap.uncertainty import metrics
from mofgap.uncertainty.columns import Floats, columns
from mofgap.uncertainty.conformal import FEWEST_ROWS, MIN_ROWS, Residuals
from mofgap.uncertainty.scaling import Scaling, fit_scaling

VERSION = 1
MAX_RESIDUALS = 5000
SCALING_SHARE = 0.3
N_FOLDS = 5

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Record:
    """What a calibration was fitted on and how it fared.

    Attributes:
        n_scaling: Rows that fitted the scaling.
        n_residuals: Rows that gave the residuals of the intervals, apart from the former.
        ids_sha256: SHA-256 of the sorted ids of all rows, joined by line feeds.
        crps_raw_ev: CRPS in eV of the raw spread on all rows.
        crps_ev: The same of the calibrated spread, five-fold cross-validated.
        coverage: Nominal coverage in percent -> the fraction observed, five-fold cross-validated.
        width_ev: Nominal coverage in percent -> mean width in eV of those intervals.
    """

    n_scaling: int
    n_residuals: int
    ids_sha256: str
    crps_raw_ev: float
    crps_ev: float
    coverage: dict[str, float]
    width_ev: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """A scaling of the spread, and the distribution of what remains.

    A prediction is mu with a calibrated std; the reference is mu + std * z with z drawn from `Residuals`, and
    never below zero, since no gap is. Intervals are those of split-conformal regression normalised by std;
    their coverage is guaranteed on average over structures exchangeable with the calibration rows, to the
    extent that the model was not chosen on these rows.

    Attributes:
        scaling: Raw parts of the spread -> calibrated std.
        residuals: One distribution, or two when split by novelty: (familiar, novel).
        novelty_threshold: A structure of a novelty above it is novel; None for a single distribution.
        record: Where it comes from; None for a raw one.
    """

    scaling: Scaling
    residuals: tuple[Residuals, ...]
    novelty_threshold: float | None = None
    record: Record | None = None

    def __post_init__(self) -> None:
        expected = 1 if self.novelty_threshold is None else 2
        if len(self.residuals) != expected:
            raise ValueError(f"expected {expected} distributions of residuals, not {len(self.residuals)}")
        if len({bool(group.values) for group in self.residuals}) > 1:
            raise ValueError("either all distributions of residuals are empirical or none is")

    @classmethod
    def raw(cls) -> "Calibration":
        """The model's own spread with Gaussian intervals: nothing fitted, nothing guaranteed."""
        return cls(Scaling(), (Residuals(),))

    @property
    def is_raw(self) -> bool:
        """Whether the intervals are the model's own, without a guarantee."""
        return not self.residuals[0].values

    def std(self, epistemic_std: npt.ArrayLike, aleatoric_std: npt.ArrayLike) -> Floats:
        """The calibrated total standard deviation in eV, shape (n,). See `Scaling`."""
        return self.scaling(epistemic_std, aleatoric_std)

    def interval(
        self,
        gap_ev: npt.ArrayLike,
        std: npt.ArrayLike,
        coverage: float = 0.9,
        novelty: npt.ArrayLike | None = None,
    ) -> tuple[Floats, Floats]:
        """Intervals of at least the given coverage, cut at zero, which costs no coverage.

        Args:
            gap_ev: Predicted gaps in eV, shape (n,).
            std: Calibrated standard deviations in eV, shape (n,), from `std`.
            coverage: Between 0.5 and 0.99.
            novelty: Shape (n,), needed where the calibration is split by novelty.

        Returns:
            Lower and upper ends in eV, each of shape (n,); NaN where the gap or std is.

        Raises:
            ValueError: The coverage is out of range, the shapes differ, or the novelty is missing.
        """
        gap, spread = _same_shape(gap_ev, std)
        half_widths = np.array([group.half_width(coverage) for group in self.residuals])
        half = half_widths[self._group(novelty, len(gap))] * spread
        return np.maximum(gap - half, 0), np.maximum(gap + half, 0)

    def p_in_window(
        self,
        gap_ev: npt.ArrayLike,
        std: npt.ArrayLike,
        lo: float | None,
        hi: float | None,
        novelty: npt.ArrayLike | None = None,
    ) -> Floats:
        """The probability that the gap lies in [lo, hi] eV, shape (n,); None or infinity leaves an end open.

        Mass of the predictive distribution below zero belongs to zero, so a window that begins at or below
        zero holds it, and one that ends below zero holds nothing.

        Raises:
            ValueError: ``lo`` exceeds ``hi``, the shapes differ, or the novelty is missing.
        """
        lo, hi = -np.inf if lo is None else lo, np.inf if hi is None else hi
        if not lo <= hi:
            raise ValueError(f"a window needs its lower end below its upper end, not {lo} and {hi}")
        gap, spread = _same_shape(gap_ev, std)
        group = self._group(novelty, len(gap))

        def below(end: float) -> Floats:
            z = (end - gap) / np.maximum(spread, 1e-12)  # a point mass where the spread is zero
            return np.choose(group, [residuals.cdf(z) for residuals in self.residuals])

        known = np.where(np.isnan(gap + spread), np.nan, 1.0)
        if hi < 0:
            return 0 * known
        upper = below(hi) if hi < np.inf else np.ones_like(gap)
        lower = below(lo) if lo > 0 else np.zeros_like(gap)
        return np.clip(upper - lower, 0, 1) * known

    def _group(self, novelty: npt.ArrayLike | None, n: int) -> Rows:
        if self.novelty_threshold is None:
            return np.zeros(n, dtype=np.intp)
        if novelty is None:
            raise ValueError("this calibration is split by novelty and needs that of every structure")
        values = np.asarray(novelty, dtype=np.float64)
        if values.shape != (n,):
            raise ValueError(f"novelty must have {n} values, its shape is {values.shape}")
        # An unknown novelty is no reason for confidence.
        return (~(values <= self.novelty_threshold)).astype(np.intp)

    def save(self, path: Path | str) -> None:
        """Write ``calibration.json``."""
        content = {"version": VERSION, **asdict(self)}
        content["residuals"] = [list(group.values) for group in self.residuals]
        Path(path).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            ValueError: The version is another, or a key is missing or unknown.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        version = content.pop("version", None)
        if version != VERSION:
            raise ValueError(f"{path}: calibration of version {version}, this program reads {VERSION}")
        _check_keys(cls, content, path)
        record = content["record"]
        return cls(
            Scaling(**_check_keys(Scaling, content["scaling"], path)),
            tuple(Residuals(tuple(values)) for values in content["residuals"]),
            content["novelty_threshold"],
            None if record is None else Record(**_check_keys(Record, record, path)),
        )


def fit_calibration(
    y_true: npt.ArrayLike,
    gap_ev: npt.ArrayLike,
    epistemic_std: npt.ArrayLike,
    aleatoric_std: npt.ArrayLike,
    ids: Sequence[str],
    *,
    novelty: npt.ArrayLike | None = None,
    novelty_threshold: float | None = None,
    scaling: Scaling | None = None,
) -> Calibration:
    """Fit a calibration on rows that did not train the model.

    Three rows in ten fit the scaling, the others (at most 5,000) give the residuals, so that the guarantee is
    strict. Rows are dealt out in the order of the hashes of their ids, whatever order they come in.

    Args:
        y_true: Reference gaps in eV, shape (n,).
        gap_ev: Predicted gaps in eV, shape (n,).
        epistemic_std: Raw epistemic standard deviations in eV, shape (n,).
        aleatoric_std: Raw aleatoric standard deviations in eV, shape (n,); zeros for a model without them.
        ids: Unique names of the rows, length n.
        novelty: Shape (n,), only with a threshold.
        novelty_threshold: Gives novel structures their own residuals (Mondrian conformal regression).
        scaling: Taken as it is, so that all rows give residuals and 24 of them are enough; not one that
            was fitted on these rows.

    Raises:
        ValueError: Columns do not fit together, a reference is negative (an interval cut at zero would miss
            it), ids repeat, or there are too few rows: the cross-validation, too, needs 99 residuals a
            group, which takes about 200 rows in each.
    """
    table = columns(y_true=y_true, gap_ev=gap_ev, epistemic_std=epistemic_std, aleatoric_std=aleatoric_std)
    n = len(table[0])
    if len(ids) != n or len(set(ids)) != n:
        raise ValueError(f"{n} rows need as many different ids, not {len(set(ids))} among {len(ids)}")
    if (table[0] < 0).any():
        raise ValueError(f"{int((table[0] < 0).sum())} reference gaps are negative")
    if (novelty is None) != (novelty_threshold is None):
        raise ValueError("novelty and its threshold come together")
    far = np.zeros(n) if novelty is None else columns(y_true=y_true, novelty=novelty)[1]
    order = sorted(range(n), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    data = np.stack([*table, far])[:, np.array(order, dtype=np.intp)]
    fitted = _fit(data, novelty_threshold, scaling)
    n_residuals = sum(len(group.values) for group in fitted.residuals)
    ids_sha256 = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    n_scaling = 0 if scaling else int(n * SCALING_SHARE)
    scores = _cross_validate(data, novelty_threshold, scaling)
    record = Record(n_scaling, n_residuals, ids_sha256, **scores)
    return replace(fitted, record=record)


def _fit(data: Floats, novelty_threshold: float | None, scaling: Scaling | None) -> Calibration:
    """Fit on (y_true, gap, epistemic, aleatoric, novelty), shape (5, n), in random order."""
    n_scaling, least = 0, FEWEST_ROWS
    if scaling is None:
        n_scaling, least = int(data.shape[1] * SCALING_SHARE), MIN_ROWS
        true, gap, epistemic, aleatoric, _ = data[:, :n_scaling]
        if n_scaling == 0:
            raise ValueError(
                f"a calibration needs at least {MIN_ROWS} rows for its residuals and some for its scaling"
            )
        scaling = fit_scaling(true - gap, epistemic, aleatoric)
    true, gap, epistemic, aleatoric, novelty = data[:, n_scaling : n_scaling + MAX_RESIDUALS]
    z = (true - gap) / scaling(epistemic, aleatoric)
    if novelty_threshold is None:
        groups = [z]
    else:
        groups = [z[novelty <= novelty_threshold], z[novelty > novelty_threshold]]
    for group in groups:
        if len(group) < least:
            raise ValueError(f"{len(group)} rows are left for residuals of a group, {least} are needed")
    residuals = tuple(Residuals(tuple(float(f"{v:.6g}") for v in np.sort(group))) for group in groups)
    return Calibration(scaling, residuals, novelty_threshold)


def _cross_validate(data: Floats, novelty_threshold: float | None, scaling: Scaling | None) -> dict[str, Any]:
    """Score the procedure: each fold by a calibration fitted on the other folds."""
    fold = np.arange(data.shape[1]) % N_FOLDS
    true, gap, epistemic, aleatoric, novelty = data
    std = np.zeros_like(gap)
    ends = {level: (np.zeros_like(gap), np.zeros_like(gap)) for level in metrics.LEVELS}
    for k in range(N_FOLDS):
        fitted, held = _fit(data[:, fold != k], novelty_threshold, scaling), fold == k
        std[held] = fitted.std(epistemic[held], aleatoric[held])
        for level, (lo, hi) in ends.items():
            lo[held], hi[held] = fitted.interval(gap[held], std[held], level, novelty[held])
    return {
        "crps_raw_ev": _rounded(metrics.crps(true, gap, Scaling()(epistemic, aleatoric))),
        "crps_ev": _rounded(metrics.crps(true, gap, std)),
        "coverage": {f"{100 * p:g}": _rounded(metrics.coverage(true, *ends[p])) for p in ends},
        "width_ev": {f"{100 * p:g}": _rounded(metrics.mean_width(*ends[p])) for p in ends},
    }


def _rounded(value: float) -> float:
    """Six significant digits: what a reader and a file need."""
    return float(f"{value:.6g}")


def _same_shape(gap_ev: npt.ArrayLike, std: npt.ArrayLike) -> tuple[Floats, Floats]:
    gap, spread = np.asarray(gap_ev, dtype=np.float64), np.asarray(std, dtype=np.float64)
    if gap.ndim != 1 or gap.shape != spread.shape:
        raise ValueError(f"gap_ev and std must be columns of one length, not {gap.shape} and {spread.shape}")
    if (spread < 0).any():
        raise ValueError("a standard deviation is negative")
    return gap, spread


def _check_keys(kind: type, content: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """The content itself, if its keys are the fields of the dataclass, no more and no fewer."""
    wrong = content.keys() ^ {field.name for field in fields(kind)}
    if wrong:
        raise ValueError(f"{path}: unknown or missing in {kind.__name__.lower()}: {', '.join(sorted(wrong))}")
    return content
