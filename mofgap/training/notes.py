"""What a user has to know of a model that was trained or calibrated, a line each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mofgap.counts import counted
from mofgap.gap.folder import CALIBRATION, find_model, read_config
from mofgap.shipped import METRICS
from mofgap.training.calibration import MIN_ROWS, MIN_SCALING_ROWS
from mofgap.training.config import MIN_CORRECTION_ROWS, N_FOLDS
from mofgap.uncertainty.calibrate import Calibration

if TYPE_CHECKING:
    from mofgap.training.recalibration import Recalibration

LARGE_BIAS = 0.5
"""A bias beyond this part of the mean absolute error is said to be one."""


def notes_on_training(folder: Path, from_model: str | None, *, error_bars: bool = True) -> list[str]:
    """Whether scores are too good, error bars lack a calibration, or the neighbour correction was lost.

    Args:
        folder: Of the model that was trained.
        from_model: The gap model it started from, by name or folder, if it did.
        error_bars: Whether its error bars matter: no other calibration follows.

    Raises:
        ModelError: If ``folder`` or ``from_model`` holds no model.
        ValueError: If the calibration in ``folder`` is damaged.
    """
    result = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    known, parent = result["known"], result["parent"]
    notes = []
    if known:
        counts = " and ".join(f"{n} of {split}" for split, n in known.items())
        words = f"{parent} was trained on {counts}: their scores have columns of their own"
        notes.append(f"{words}, and are too good")
    if result.get("families_divided"):
        words = f"fewer than {N_FOLDS} families have labels, or one has more than half of them"
        notes.append(f"{words}: cross-fitting divides families, and new ones may have larger errors")
    if error_bars:
        notes += _on_error_bars(folder, from_model, parent if known else "")
    if from_model is not None and loses_correction(find_model(from_model), folder):
        notes.append(_on_lost_correction(folder, from_model))
    return notes


def _on_error_bars(folder: Path, from_model: str | None, knows: str) -> list[str]:
    """Which error bars are not calibrated, where a model ``knows`` some of the structures already."""
    calibration = Calibration.load(folder / CALIBRATION)
    if calibration.record is not None and not calibration.record.n_scaling and from_model is None:
        words = f"fewer than {MIN_SCALING_ROWS} labels calibrate the error bars: read the interval"
        return [f"{words}, since standard deviations are not scaled to the errors"]
    if not calibration.is_raw:
        return []
    words = "too few labels to calibrate the error bars, which are the network's own, without a guarantee"
    how = "if none has a split" if from_model else "with a model to start from (--from, from_model: qmof-pbe)"
    if knows:
        how = f"of structures that {knows} was not trained on"
    return [f"{words}; {MIN_ROWS} labels are enough {how}"]


def _on_lost_correction(folder: Path, from_model: str) -> str:
    words = f"the model has no neighbour correction, which needs {MIN_CORRECTION_ROWS:,} training structures"
    one, other = (read_config(each)["about"]["level_of_theory"] for each in (find_model(from_model), folder))
    cure = f"; compare its errors with those of {from_model} before you use it"
    is_other = "unknown" not in (one, other) and not one.startswith(other)
    return words + ("" if is_other else cure)


def loses_correction(parent: Path, folder: Path) -> bool:
    """Whether a trained model lacks the neighbour correction that the model it started from has."""
    before, now = (read_config(each)["model"].get("correction_size", 0) for each in (parent, folder))
    return bool(before and not now)


def notes_on_calibration(found: Recalibration, target: str) -> list[str]:
    """The error of the gaps, what was left out, and a bias that error bars can only cover.

    Args:
        found: The calibration.
        target: Column of the labels.
    """
    errors = f"mean absolute error {found.mae_ev:.3f} eV, mean error {-found.bias_ev:+.3f} eV"
    notes = [f"{errors}, on {counted(found.n_rows, 'structure')}; gaps stay as they are"]
    if found.n_known:
        notes.append(f"left out {counted(found.n_known, 'structure')} that the model was trained on")
    if found.n_unbalanced:
        words = "whose charges do not add up: their error bars are wider by a rule of their own"
        notes.append(f"left out {counted(found.n_unbalanced, 'structure')} {words}")
    if abs(found.bias_ev) > LARGE_BIAS * found.mae_ev:
        side = "above" if found.bias_ev < 0 else "below"
        bias = f"the model's gaps are {abs(found.bias_ev):.2f} eV {side} {target} on average"
        other = "if the labels are of another level, name the model of that level"
        cure = f"{other}; else mofgap train --from corrects it"
        notes.append(f"{bias}: error bars can only cover this; {cure}")
    return notes
