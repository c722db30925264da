"""Scores of class probabilities and of their uncertainty: each is the mean over the trainings of an arm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.claims.arms import Arm
from mofgap.uncertainty.columns import Floats

N_BINS = 15
_LEAST = 1e-12


def accuracy(arm: Arm) -> float:
    """Share of inputs whose likeliest class is right."""
    return float(_is_right(arm).mean())


def nll(arm: Arm) -> float:
    """Mean negative log-likelihood, in nats."""
    return float(-np.log(np.maximum(_of_label(arm), _LEAST)).mean())


def brier(arm: Arm) -> float:
    """Mean over inputs of the squared distance of probabilities and outcome, 0 to 2."""
    p = arm.predicted
    return float(((p**2).sum(2) - 2 * _of_label(arm) + 1).mean())


def ece(arm: Arm) -> float:
    """Expected calibration error of the likeliest class, in bins of equal width: arXiv 1706.04599."""
    right, stated = _is_right(arm), arm.predicted.max(2)
    bins = np.minimum((stated * N_BINS).astype(np.int64), N_BINS - 1)
    excess = [np.bincount(b, r - s, N_BINS) for b, r, s in zip(bins, right, stated, strict=True)]
    return float(np.abs(excess).sum(1).mean() / arm.n)


def auroc_errors(arm: Arm) -> float:
    """AUROC of wrong classes by the entropy of the probabilities."""
    return mean_auroc(~_is_right(arm), entropy(arm))


def auroc_errors_epistemic(arm: Arm) -> float:
    """AUROC of wrong classes by the epistemic variance; 0.5 where there is none."""
    return mean_auroc(~_is_right(arm), arm.epistemic)


def auroc_shifted(arm: Arm) -> float:
    """AUROC of shifted inputs by the entropy of the probabilities."""
    return mean_auroc(np.broadcast_to(arm.is_shifted, arm.epistemic.shape), entropy(arm))


def auroc_shifted_epistemic(arm: Arm) -> float:
    """AUROC of shifted inputs by the epistemic variance; 0.5 where there is none."""
    return mean_auroc(np.broadcast_to(arm.is_shifted, arm.epistemic.shape), arm.epistemic)


Score = Callable[[Arm], float]
OF_LABELS: dict[str, Score] = {
    each.__name__: each for each in (accuracy, nll, brier, ece, auroc_errors, auroc_errors_epistemic)
}
"""Scores of inputs with labels."""
OF_SHIFT: dict[str, Score] = {each.__name__: each for each in (auroc_shifted, auroc_shifted_epistemic)}
"""Scores of test inputs and a shifted set together."""


@dataclass(frozen=True)
class Measures:
    """The scores of a kind of labels, and which of them the claims ask for.

    Every kind has also the scores ``nll`` and ``auroc_shifted_epistemic``.

    Attributes:
        of_labels: Scores of inputs with labels.
        of_shift: Scores of test inputs and a shifted set together.
        less_is_better: Names of scores of which less is better.
        quality: Name of the score of the prediction itself.
        by_total: Name of the score that says whether errors follow the whole uncertainty.
        by_spread: The same of the epistemic spread.
    """

    of_labels: Mapping[str, Score]
    of_shift: Mapping[str, Score]
    less_is_better: tuple[str, ...]
    quality: str
    by_total: str
    by_spread: str

    @property
    def all(self) -> dict[str, Score]:
        """Every score."""
        return {**self.of_labels, **self.of_shift}

    def sign(self, score: str) -> int:
        """Whether more (1) or less (-1) is better."""
        return -1 if score in self.less_is_better else 1


CLASSES = Measures(
    OF_LABELS, OF_SHIFT, ("nll", "brier", "ece"), "accuracy", "auroc_errors", "auroc_errors_epistemic"
)


def entropy(arm: Arm) -> Floats:
    """(n_seeds, n) entropy of the probabilities, in nats."""
    p = arm.predicted
    found: Floats = -(p * np.log(np.maximum(p, _LEAST))).sum(2)
    return found


def auroc(is_positive: np.ndarray, score: Floats) -> float:
    """Area under the ROC curve of n inputs by their ranks; ties count one half, NaN without both classes.

    The value of `mofgap.uncertainty.metrics.auroc`, fast enough to be resampled a thousand times.
    """
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    total = ranks(score[None])[0, is_positive].sum()
    return float((total - 0.5 * n_positive * (n_positive + 1)) / (n_positive * n_negative))


def ranks(values: Floats) -> Floats:
    """Ranks from 1 in each row of (n_rows, n) values; equal values share the mean of their ranks.

    Those of `scipy.stats.rankdata`, in a third of its time.
    """
    order = values.argsort(1)
    ascending = np.take_along_axis(values, order, 1)
    is_new = np.insert(ascending[:, 1:] != ascending[:, :-1], 0, True, axis=1)
    starts = np.flatnonzero(is_new)
    sizes = np.diff(starts, append=values.size)
    mean = np.repeat(starts + (sizes + 1) / 2, sizes).reshape(values.shape)
    found = np.empty(values.shape)
    np.put_along_axis(found, order, mean - np.arange(len(values))[:, None] * values.shape[1], 1)
    return found


def mean_auroc(is_positive: np.ndarray, score: Floats) -> float:
    """Mean over trainings of the AUROC, both (n_seeds, n)."""
    return float(np.mean([auroc(*each) for each in zip(is_positive, score, strict=True)]))


def _is_right(arm: Arm) -> np.ndarray:
    found: np.ndarray = arm.predicted.argmax(2) == arm.labels
    return found


def _of_label(arm: Arm) -> Floats:
    found: Floats = np.take_along_axis(arm.predicted, arm.labels[None, :, None], 2)[:, :, 0]
    return found
