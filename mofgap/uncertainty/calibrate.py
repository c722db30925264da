"""Calibration: from a model's raw spread to intervals of a given coverage."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mofgap.counts import counted
from mofgap.uncertainty.columns import Floats, Indices, columns
from mofgap.uncertainty.conformal import MIN_RESIDUALS, MIN_RESIDUALS_99, MIN_TAIL_RESIDUALS, Residuals
from mofgap.uncertainty.groups import group_of
from mofgap.uncertainty.scaling import Scaling, fit_scaling, rounded

VERSION = 4
MAX_RESIDUALS = 5000
"""Largest number of stored residuals, over all groups of novelty."""
N_FOLDS = 5


@dataclass(frozen=True)
class Record:
    """The rows that fitted a calibration, and its scores on them.

    Attributes:
        n_scaling: Number of rows that fitted the scaling; 0 if it was given.
        n_residuals: Number of residuals of the intervals, each by a scaling fitted without its row.
        ids_sha256: SHA-256 of the sorted ids of all rows, joined by line feeds.
        crps_raw_ev: CRPS in eV of the raw spread on all rows.
        crps_ev: The same of the calibrated spread, five-fold cross-validated.
        coverage: Nominal coverage in percent -> the fraction observed, five-fold cross-validated.
        width_ev: Nominal coverage in percent -> mean width in eV of those intervals.
        coverage_90_by_group: The fraction observed in 90 % intervals, for each group of novelty.
    """

    n_scaling: int
    n_residuals: int
    ids_sha256: str
    crps_raw_ev: float
    crps_ev: float
    coverage: dict[str, float]
    width_ev: dict[str, float]
    coverage_90_by_group: tuple[float, ...] = ()


@dataclass(frozen=True)
class Calibration:
    """A scaling of the spread, and the distribution of the standardised errors.

    The distribution of the reference gap is that of mu + std * z, with the prediction mu, its calibrated std,
    and z from `Residuals`; values below zero count as zero. Intervals are those of split-conformal regression
    normalised by std. Those with equal tails end at quantiles of this distribution, from which `p_in_window`
    comes too. A symmetric one ends at a quantile of abs(z), so that its `p_in_window` is nearly its coverage.
    With a given scaling, the coverage is guaranteed on average over structures exchangeable with the
    calibration rows. With one fitted on the same rows it holds nearly (`fit_calibration`). In both cases the
    model must not have been chosen on these rows.

    Attributes:
        scaling: It turns the raw parts of the spread into the calibrated std.
        residuals: One distribution for each group of novelty, in ascending order.
        novelty_edges: Novelty between one group and the next, ascending; an edge belongs to the lower group.
        record: The rows that fitted it; None for a raw calibration.
        experimental_std_ev: Added in squares to the std of structures whose geometry is experimental, eV;
            None if it was not fitted.
        equal_tails: Whether both tails outside an interval have the same probability. Otherwise an interval
            is symmetric, which needs fewer residuals.

    Raises:
        ValueError: If the distributions and edges do not fit together, or the edges do not ascend.
        ValueError: If only some are empirical, or ``experimental_std_ev`` is below 0 or not finite.
    """

    scaling: Scaling
    residuals: tuple[Residuals, ...]
    novelty_edges: tuple[float, ...] = ()
    record: Record | None = None
    experimental_std_ev: float | None = None
    equal_tails: bool = False

    def __post_init__(self) -> None:
        expected = len(self.novelty_edges) + 1
        if len(self.residuals) != expected:
            raise ValueError(f"expected {expected} distributions of residuals, not {len(self.residuals)}")
        if not np.isfinite(self.novelty_edges).all() or (np.diff(self.novelty_edges) <= 0).any():
            raise ValueError(f"edges between groups of novelty must ascend, not {self.novelty_edges}")
        if len({bool(group.values) for group in self.residuals}) > 1:
            raise ValueError("either all distributions of residuals are empirical or none is")
        if not 0 <= (self.experimental_std_ev or 0.0) < np.inf:
            raise ValueError(f"experimental_std_ev must be at least 0, not {self.experimental_std_ev}")

    @classmethod
    def raw(cls, scaling: Scaling | None = None) -> "Calibration":
        """The model's own spread, scaled or not, with Gaussian intervals: none is fitted or guaranteed."""
        return cls(scaling or Scaling(), (Residuals(),))

    @property
    def is_raw(self) -> bool:
        """Whether the intervals are the model's own Gaussian ones."""
        return not self.residuals[0].values

    def std(
        self,
        epistemic_std: npt.ArrayLike,
        aleatoric_std: npt.ArrayLike,
        experimental: npt.ArrayLike = 0.0,
    ) -> Floats:
        """The calibrated total standard deviation from the raw parts, all in eV, shape (n,). See `Scaling`.

        ``experimental``, from 0 (relaxed geometry) to 1, multiplies `experimental_std_ev`, which is added in
        squares.
        """
        added = (self.experimental_std_ev or 0.0) * np.asarray(experimental)
        return np.hypot(self.scaling(epistemic_std, aleatoric_std), added)

    def interval(
        self,
        gap_ev: npt.ArrayLike,
        std: npt.ArrayLike,
        coverage: float = 0.9,
        novelty: npt.ArrayLike | None = None,
    ) -> tuple[Floats, Floats]:
        """Intervals of at least the given coverage. Ends below zero become zero, which costs no coverage.

        They contain the predicted gap, also if most of the errors have one sign.

        Args:
            gap_ev: Predicted gaps in eV, shape (n,).
            std: Calibrated standard deviations in eV, shape (n,), from `std`.
            coverage: Between 0.5 and 0.99.
            novelty: Shape (n,); needed if there are several groups of novelty.

        Returns:
            Lower and upper ends in eV, each of shape (n,); NaN if the gap or std is NaN.

        Raises:
            ValueError: If ``coverage`` is out of range, the columns differ in shape, a ``std`` is negative,
                or the ``novelty`` is missing.
        """
        gap, spread = _same_shape(gap_ev, std)
        ends = np.array([group.ends(coverage, equal_tails=self.equal_tails) for group in self.residuals])
        low, high = ends[self.group(novelty, len(gap))].T
        low, high = gap + np.minimum(low, 0) * spread, gap + np.maximum(high, 0) * spread
        return np.maximum(low, 0), np.maximum(high, 0)

    def p_in_window(
        self,
        gap_ev: npt.ArrayLike,
        std: npt.ArrayLike,
        lo: float | None,
        hi: float | None,
        novelty: npt.ArrayLike | None = None,
    ) -> Floats:
        """The probability that the gap lies in [lo, hi] eV, shape (n,); None or infinity leaves an end open.

        A gap below zero counts as a gap of zero. So a window that ends below zero has the probability 0.

        Raises:
            ValueError: If the end ``lo`` exceeds ``hi``, the columns differ in shape, a ``std`` is negative,
                or the ``novelty`` is missing.
        """
        lo, hi = -np.inf if lo is None else lo, np.inf if hi is None else hi
        if not lo <= hi:
            raise ValueError(f"a window needs its lower end below its upper end, not {lo} and {hi}")
        gap, spread = _same_shape(gap_ev, std)
        known = np.where(np.isnan(gap + spread), np.nan, 1.0)
        if hi < 0:
            return 0 * known
        upper = self.cdf(hi, gap, spread, novelty) if hi < np.inf else np.ones_like(gap)
        lower = self.cdf(lo, gap, spread, novelty) if lo > 0 else np.zeros_like(gap)
        return np.clip(upper - lower, 0, 1) * known

    def cdf(
        self,
        at_ev: npt.ArrayLike,
        gap_ev: npt.ArrayLike,
        std: npt.ArrayLike,
        novelty: npt.ArrayLike | None = None,
    ) -> Floats:
        """The probability that a gap is at most ``at_ev``, shape (n,), with negative gaps allowed.

        Args:
            at_ev: One energy for all structures, or one for each, shape (n,), eV.
            gap_ev: Predicted gaps in eV, shape (n,).
            std: Calibrated standard deviations in eV, shape (n,), from `std`.
            novelty: Shape (n,); needed if there are several groups of novelty.

        Raises:
            ValueError: If the columns differ in shape, a ``std`` is negative, or the ``novelty`` is missing.
        """
        gap, spread = _same_shape(gap_ev, std)
        group = self.group(novelty, len(gap))
        at = np.asarray(at_ev, dtype=np.float64)
        z = (at - gap) / np.maximum(spread, 1e-12)  # a point mass if the spread is zero
        return np.stack([residuals.cdf(z) for residuals in self.residuals])[group, np.arange(len(gap))]

    def group(self, novelty: npt.ArrayLike | None, n: int) -> Indices:
        """The group of novelty of each of n structures, from 0; the last one if the novelty is NaN.

        Raises:
            ValueError: If ``novelty`` is missing and the calibration needs it, or its length is not ``n``.
        """
        if not self.novelty_edges:
            return np.zeros(n, dtype=np.intp)
        if novelty is None:
            raise ValueError("this calibration is split by novelty and needs that of every structure")
        values = np.asarray(novelty, dtype=np.float64)
        if values.shape != (n,):
            raise ValueError(f"novelty must have {n} values, its shape is {values.shape}")
        return group_of(values, self.novelty_edges)

    def save(self, path: Path | str) -> None:
        """Write ``calibration.json``."""
        content = {"version": VERSION, **asdict(self)}
        content["residuals"] = [list(group.values) for group in self.residuals]
        Path(path).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Calibration":
        """Read ``calibration.json`` of this version or an earlier one.

        Raises:
            ValueError: If the file ``path`` has an unknown version, or a key is missing or unknown.
        """
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        version = content.pop("version", None)
        if version not in range(1, VERSION + 1):
            raise ValueError(f"{path}: version {version}, this mofgap reads up to {VERSION}: update mofgap")
        content = _check_keys(cls, _upgraded(content, version), path)
        record = content["record"]
        if record is not None:
            _check_keys(Record, record, path)
            record = Record(**record | {"coverage_90_by_group": tuple(record["coverage_90_by_group"])})
        return cls(
            Scaling(**_check_keys(Scaling, content["scaling"], path)),
            tuple(Residuals(tuple(values)) for values in content["residuals"]),
            tuple(content["novelty_edges"]),
            record,
            content["experimental_std_ev"],
            content["equal_tails"],
        )


def fit_calibration(
    y_true: npt.ArrayLike,
    gap_ev: npt.ArrayLike,
    epistemic_std: npt.ArrayLike,
    aleatoric_std: npt.ArrayLike,
    ids: Sequence[str],
    *,
    novelty: npt.ArrayLike | None = None,
    novelty_edges: Sequence[float] = (),
    scaling: Scaling | None = None,
) -> Calibration:
    """Fit a calibration on rows that did not train the model.

    All rows fit the scaling, and all (at most 5,000) give residuals. The scaling for a residual is fitted to
    four fifths of the rows, without the fold of its row, as in cross-conformal prediction (Vovk, Ann. Math.
    Artif. Intell. 74, 9 (2015)). New structures get the scaling of all rows, which hardly differs. The folds
    follow the hashes of the ids, so the order of the rows does not matter.

    Intervals have equal tails if each group keeps `MIN_TAIL_RESIDUALS` residuals in every fold of the
    cross-validation, which takes about 250 rows a group. With fewer rows they are symmetric.

    Args:
        y_true: Reference gaps in eV, shape (n,).
        gap_ev: Predicted gaps in eV, shape (n,).
        epistemic_std: Raw epistemic standard deviations in eV, shape (n,).
        aleatoric_std: Raw aleatoric standard deviations in eV, shape (n,); zeros for a model without them.
        ids: Unique names of the rows, length n.
        novelty: Shape (n,), with ``novelty_edges`` alone.
        novelty_edges: Each group of novelty gets separate residuals (Mondrian conformal regression, Boström
            and Johansson, PMLR 128, 114 (2020)); see `mofgap.uncertainty.groups.quantile_edges`.
        scaling: A scaling that was not fitted on these rows. With it, 24 rows are enough.

    Raises:
        ValueError: If the columns differ in length, ids repeat, or a reference is negative.
        ValueError: If only one of ``novelty`` and ``novelty_edges`` is given.
        ValueError: If the rows are too few. Without ``scaling``, a group of novelty needs about 130.
    """
    table = columns(y_true=y_true, gap_ev=gap_ev, epistemic_std=epistemic_std, aleatoric_std=aleatoric_std)
    n = len(table[0])
    if len(ids) != n or len(set(ids)) != n:
        raise ValueError(f"{n} rows need as many different ids, not {len(set(ids))} among {len(ids)}")
    if n_negative := int((table[0] < 0).sum()):
        raise ValueError(f"{counted(n_negative, 'negative reference gap')}: correct or remove them")
    edges = tuple(float(edge) for edge in novelty_edges)
    if (novelty is None) != (not edges):
        raise ValueError("give both of novelty and novelty_edges, or neither")
    distance = np.zeros(n) if novelty is None else columns(y_true=y_true, novelty=novelty)[1]
    order = sorted(range(n), key=lambda row: hashlib.sha256(ids[row].encode()).digest())
    data = np.stack([*table, distance])[:, np.array(order, dtype=np.intp)]
    fitted = replace(_fit(data, edges, scaling), equal_tails=_enough_for_tails(data[4], edges))
    n_residuals = sum(len(group.values) for group in fitted.residuals)
    ids_sha256 = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
    scores = _cross_validate(data, fitted, scaling)
    return replace(fitted, record=Record(0 if scaling else n, n_residuals, ids_sha256, **scores))


def _fit(data: Floats, edges: tuple[float, ...], scaling: Scaling | None) -> Calibration:
    """Fit on (y_true, gap, epistemic, aleatoric, novelty), shape (5, n), in random order."""
    least = MIN_RESIDUALS_99 if scaling is None else MIN_RESIDUALS
    group, n_groups = group_of(data[4], edges), len(edges) + 1
    fewest = np.bincount(group, minlength=n_groups).min()
    if fewest < least:
        raise ValueError(f"the smallest group of novelty has {counted(fewest, 'row')}, {least} are needed")
    z, most = _standardised(data, scaling), MAX_RESIDUALS // n_groups
    groups = [np.sort(z[group == i][:most]) for i in range(n_groups)]
    residuals = tuple(Residuals(tuple(rounded(value) for value in each)) for each in groups)
    return Calibration(scaling or _scaling_of(data), residuals, edges)


def _enough_for_tails(novelty: Floats, edges: tuple[float, ...]) -> bool:
    """Whether each group keeps enough residuals for equal tails in every fold of the cross-validation."""
    group, fold = group_of(novelty, edges), np.arange(len(novelty)) % N_FOLDS
    kept = [np.bincount(group[fold != k], minlength=len(edges) + 1).min() for k in range(N_FOLDS)]
    return bool(min(*kept, MAX_RESIDUALS // (len(edges) + 1)) >= MIN_TAIL_RESIDUALS)


def _scaling_of(data: Floats) -> Scaling:
    true, gap, epistemic, aleatoric, _ = data
    return fit_scaling(true - gap, epistemic, aleatoric)


def _standardised(data: Floats, scaling: Scaling | None) -> Floats:
    """Errors divided by the scaled spread, shape (n,); by default the other folds fit the scaling."""
    true, gap, epistemic, aleatoric, _ = data
    if scaling is not None:
        if not (given := scaling(epistemic, aleatoric)).all():
            raise ValueError("a row has a standard deviation of zero; give a scaling with a floor")
        return np.asarray((true - gap) / given)
    fold, std = np.arange(len(gap)) % N_FOLDS, np.empty_like(gap)
    for k in range(N_FOLDS):
        std[fold == k] = _scaling_of(data[:, fold != k])(epistemic[fold == k], aleatoric[fold == k])
    return np.asarray((true - gap) / std)


def _cross_validate(data: Floats, whole: Calibration, scaling: Scaling | None) -> dict[str, Any]:
    """The scores of a `Record`: each fold is predicted by a calibration fitted on the other folds."""
    from mofgap.uncertainty import metrics  # a prediction does not need this import

    fold, edges = np.arange(data.shape[1]) % N_FOLDS, whole.novelty_edges
    true, gap, epistemic, aleatoric, novelty = data
    std = np.zeros_like(gap)
    ends = {level: (np.zeros_like(gap), np.zeros_like(gap)) for level in metrics.LEVELS}
    for k in range(N_FOLDS):
        held = fold == k
        fitted = replace(_fit(data[:, ~held], edges, scaling), equal_tails=whole.equal_tails)
        std[held] = fitted.std(epistemic[held], aleatoric[held])
        for level, (lo, hi) in ends.items():
            lo[held], hi[held] = fitted.interval(gap[held], std[held], level, novelty[held])
    inside = (ends[0.9][0] <= true) & (true <= ends[0.9][1])
    group = group_of(novelty, edges)
    return {
        "crps_raw_ev": rounded(metrics.crps(true, gap, Scaling()(epistemic, aleatoric))),
        "crps_ev": rounded(metrics.crps(true, gap, std)),
        "coverage": {f"{100 * p:g}": rounded(metrics.coverage(true, *ends[p])) for p in ends},
        "width_ev": {f"{100 * p:g}": rounded(metrics.mean_width(*ends[p])) for p in ends},
        "coverage_90_by_group": tuple(rounded(inside[group == i].mean()) for i in range(len(edges) + 1)),
    }


def _same_shape(gap_ev: npt.ArrayLike, std: npt.ArrayLike) -> tuple[Floats, Floats]:
    gap, spread = np.asarray(gap_ev, dtype=np.float64), np.asarray(std, dtype=np.float64)
    if gap.ndim != 1 or gap.shape != spread.shape:
        raise ValueError(f"gap_ev and std must be columns of one length, not {gap.shape} and {spread.shape}")
    if (spread < 0).any():
        raise ValueError("a standard deviation is negative")
    return gap, spread


def _check_keys(kind: type, content: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """The content, after a check that its keys are the fields of the dataclass."""
    wrong = content.keys() ^ {field.name for field in fields(kind)}
    if wrong:
        raise ValueError(f"{path}: unknown or missing in {kind.__name__.lower()}: {', '.join(sorted(wrong))}")
    return content


def _upgraded(content: dict[str, Any], version: int) -> dict[str, Any]:
    """The content of a file of an older version, in the layout of this version.

    Version 1 has at most two groups of novelty, 2 no experimental geometry, and 3 no equal tails.
    """
    if version == 1:
        threshold = content.pop("novelty_threshold", None)
        content["novelty_edges"] = [] if threshold is None else [threshold]
        if content.get("record"):
            content["record"]["coverage_90_by_group"] = []
    if version < 3:
        content["experimental_std_ev"] = None
    return content if version == VERSION else content | {"equal_tails": False}
