"""Ablations: one change of the recipe against the recipe as configured, and against the trained ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from mofgap.study.config import JudgementConfig, Spread
from mofgap.study.judge.arms import Arm, Arms
from mofgap.study.judge.judgement import ENSEMBLE, Bootstrap, difference
from mofgap.study.judge.statistics import METRICS

CHANGE_METRICS: dict[Spread, tuple[str, ...]] = {"total": ("mae_ev", "spearman"), "epistemic": ("spearman",)}


def changes(
    predictions: pd.DataFrame, as_configured: Arms, config: JudgementConfig
) -> Iterator[dict[str, Any]]:
    """Every ablation minus the same method as configured, and its spread against the ensemble's.

    Args:
        predictions: Predictions of all recipes, splits and parts.
        as_configured: The arms to compare with. The ablations are of the same split and spread.
        config: How intervals are made. Those of a single training do not hold the chance of training.
    """
    bootstrap = Bootstrap.of(config)
    split, spread = as_configured.split, as_configured.spread
    for variant in predictions.variant[(predictions.split == split) & (predictions.variant != "")].unique():
        for mine in Arms.of(predictions, split, spread, variant).methods():
            for metric, other in _wanted(mine, as_configured):
                (found,) = bootstrap(difference(METRICS[metric]), (mine, other))
                about = {"variant": variant, "split": split, "spread": spread, "metric": metric}
                about |= {"a": mine.label, "b": other.label} | asdict(found)
                yield about | {"n": mine.n, "n_seeds": mine.n_seeds, "level": config.level}


def _wanted(mine: Arm, as_configured: Arms) -> Iterator[tuple[str, Arm]]:
    """The metrics and arms to compare an ablation with, at no more draws than it has itself."""
    same = as_configured.last(mine.method, most=mine.n_samples)
    ensemble = as_configured.last(ENSEMBLE + mine.suffix)
    spreads = [arm for arm in (same, ensemble) if arm is not None and arm.std_ev is not None]
    for metric in CHANGE_METRICS[as_configured.spread]:
        if metric == "mae_ev" and same is not None:
            yield metric, same
        elif metric == "spearman" and mine.std_ev is not None:
            yield from ((metric, other) for other in spreads)
