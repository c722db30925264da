"""Calibration of every method by the same procedure, fitted on val."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mofgap.gap.posterior import Posterior
from mofgap.study.config import ComparisonConfig, Spread
from mofgap.study.dataset import read
from mofgap.study.layout import Layout, write_parquet
from mofgap.study.members import tabled
from mofgap.study.methods.encoder import features
from mofgap.training.calibration import calibration_of
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.novelty import fit_novelty

RESOLUTION_EV = 1e-6
"""Smallest difference that 32-bit arithmetic resolves in a gap of some eV."""
SOURCE = ["method", "n_samples"]
"""Columns that distinguish ways of predicting within one file of predictions."""


def calibrate(config: ComparisonConfig, run: Path, split: str) -> None:
    """Put the predictions of a split in one table, with calibrated spreads and novelty."""
    layout = Layout(run)
    paths = [layout.prediction(prediction.name) for prediction in tabled(config, split)]
    table = pd.concat([add_calibrated(pd.read_parquet(path)) for path in paths], ignore_index=True)
    write_parquet(layout.calibrated(split), table.join(_novelty(config, run, split), on="id"))


def _novelty(config: ComparisonConfig, run: Path, split: str) -> pd.DataFrame:
    """Percentile and distance by structure in the pretrained encoder's features, the same for all methods."""
    dataset = read(run)
    rows = dataset.predicted(config, split)
    found, ids = features(run, config.recipe).numpy(), dataset.frame.structure_id
    numbers = dataset.frame.atomic_numbers.tolist()
    index = fit_novelty(found[rows.train], [numbers[i] for i in rows.train], ids.iloc[rows.train].tolist())
    novelty = index.score(found[rows.all], [numbers[i] for i in rows.all])
    columns = {"novelty": novelty.percentile, "novelty_distance": novelty.distance}
    return pd.DataFrame(columns, index=pd.Index(ids.iloc[rows.all], name="id"))


def has_spread(frame: pd.DataFrame) -> bool:
    """Whether a method gives a spread."""
    return bool(frame.aleatoric_std_ev.notna().all() or frame.epistemic_std_ev.notna().all())


def raw_parts(frame: pd.DataFrame, spread: Spread) -> tuple[Floats, Floats]:
    """Epistemic and aleatoric std, eV; a part that a method lacks, or that is left out, is zero.

    Two draws of a gap may agree to the last bit; the epistemic std alone is no less than their resolution.
    """
    epistemic = np.nan_to_num(frame.epistemic_std_ev.to_numpy(dtype=np.float64))
    aleatoric = np.nan_to_num(frame.aleatoric_std_ev.to_numpy(dtype=np.float64))
    if spread == "epistemic":
        return np.maximum(epistemic, RESOLUTION_EV), np.zeros_like(aleatoric)
    return epistemic, aleatoric


def fit(val: pd.DataFrame, spread: Spread) -> Calibration:
    """The calibration fitted to the val rows of one way of predicting."""
    epistemic, aleatoric = raw_parts(val, spread)
    found = Posterior(val.gap_ev.to_numpy(), epistemic, aleatoric, np.empty((len(val), 0)))
    return calibration_of(found, val.gap_dft_ev.to_numpy(), val.id.tolist())


def add_calibrated(frame: pd.DataFrame) -> pd.DataFrame:
    """The table cut at zero, with ``gap_std_ev``, ``lo_90_ev`` and ``hi_90_ev`` of the total spread."""
    frame = frame.assign(gap_ev=frame.gap_ev.clip(lower=0.0))  # not before members are averaged
    parts = []
    for _, group in frame.groupby(SOURCE, sort=False):
        std, low, high = (np.full(len(group), np.nan) for _ in range(3))
        if has_spread(group):
            calibration = fit(group[group.part == "val"], "total")
            std = calibration.std(*raw_parts(group, "total"))
            low, high = calibration.interval(group.gap_ev, std, 0.9)
        parts.append(group.assign(gap_std_ev=std, lo_90_ev=low, hi_90_ev=high))
    if not parts:  # published predictions, and none of this split
        return frame.assign(gap_std_ev=np.nan, lo_90_ev=np.nan, hi_90_ev=np.nan)
    return pd.concat(parts, ignore_index=True)
