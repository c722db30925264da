"""Recalibration: error bars from however many labelled structures there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.dataset import TableError, cached_store
from mofgap.gap.error_bars import total_std
from mofgap.gap.folder import read_config, save_model
from mofgap.gap.posterior import Posterior, predict_store
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.gap.unseen_elements import widening
from mofgap.shipped import CARD
from mofgap.training.calibration import MIN_ROWS, calibration_of, matched
from mofgap.training.card import card_of, error_bars, fenced
from mofgap.training.labels import Labels, are_unbalanced
from mofgap.uncertainty import metrics
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.whole_file import whole_folder

LEAST_MAE_EV = 1e-3
"""Labels with a smaller mean error are the gaps of the model itself, as a table of ``mofgap screen`` has."""


@dataclass(frozen=True)
class Coverage:
    """Coverage and width of intervals.

    Attributes:
        fraction: Nominal coverage in percent -> fraction of the rows covered.
        width_ev: Nominal coverage in percent -> mean width, eV.
    """

    fraction: dict[str, float]
    width_ev: dict[str, float]


@dataclass(frozen=True)
class Recalibration:
    """A new calibration, compared with the old one.

    Attributes:
        calibration: The new one.
        n_rows: Rows it was fitted on.
        n_known: Rows left out because the model was trained on them.
        n_unbalanced: Rows left out because their charges do not add up: their error bars are wider anyway.
        bias_ev: Mean of label minus gap.
        mae_ev: Mean absolute error of the gaps, which no calibration changes.
        before: How the old calibration did on these rows.
        after: The same of the new one, five-fold cross-validated.
    """

    calibration: Calibration
    n_rows: int
    n_known: int
    n_unbalanced: int
    bias_ev: float
    mae_ev: float
    before: Coverage
    after: Coverage


def recalibrate(predictor: GapPredictor, labels: Labels) -> Recalibration:
    """Fit a new calibration for a model on labelled structures, whatever their split.

    Raises:
        TableError: If ``labels`` hold fewer than `MIN_ROWS` structures whose gaps the model did not learn.
    """
    frame = labels.frame[~labels.frame.structure_id.isin(_learnt(predictor.novelty))]
    _check_enough(len(frame), len(labels.frame) - len(frame))
    store = cached_store(frame, predictor.model.graph_config, None)
    found = predict_store(predictor.model, store, range(len(frame)))
    far = predictor.novelty.score(found.features, frame.atomic_numbers.tolist())
    learnt = predictor.calibrated(found, frame.atomic_numbers.tolist()).in_training  # under other names, too
    # As in a prediction, so that the intervals fit unseen elements too.
    found = found.widened(widening(far, predictor.model.config.substitutes))
    fresh = np.flatnonzero(~learnt)
    _check_enough(len(fresh), len(labels.frame) - len(fresh))
    balanced = fresh[~are_unbalanced(frame.iloc[fresh])]
    # Where most are unbalanced, the check does not fit such structures.
    rows = balanced if len(balanced) >= max(MIN_ROWS, len(fresh) / 2) else fresh
    frame, found, novelty = frame.iloc[rows], found.rows(rows), far.percentile[rows]
    gap_ev, ids = frame[labels.target].to_numpy(dtype=np.float64), frame.structure_id.tolist()
    fitted = calibration_of(found, gap_ev, ids, predictor.calibration.scaling, novelty)
    fitted = replace(fitted, experimental_std_ev=predictor.calibration.experimental_std_ev)
    record = fitted.record
    assert record is not None
    gap = np.maximum(found.gap_ev, 0.0)
    return Recalibration(
        calibration=fitted,
        n_rows=len(frame),
        n_known=len(labels.frame) - len(fresh),
        n_unbalanced=len(fresh) - len(rows),
        bias_ev=float(np.mean(gap_ev - gap)),
        mae_ev=metrics.mae(gap_ev, gap),
        before=_coverage(predictor.calibration, found, gap_ev, novelty),
        after=Coverage(record.coverage, record.width_ev),
    )


def recalibrated(source: Path, labels: Labels, folder: Path, name: str, command: str) -> Recalibration:
    """Write a model folder with the weights of another, calibrated on labelled structures.

    Args:
        source: Folder of the model.
        labels: Structures and gaps.
        folder: To be written.
        name: Name of the new model.
        command: The command line, for the card.

    Raises:
        TableError: If ``labels`` hold too few structures that the model was not trained on, or the gaps that
            the model predicts.
        ModelError: If ``source`` holds no model that can be loaded.
    """
    predictor = load_model(source, "cpu")
    found = recalibrate(predictor, labels)
    if found.mae_ev < LEAST_MAE_EV:
        same = f"{labels.target} holds the gaps that {predictor.about.name} predicts"
        raise TableError(f"{same}: write computed gaps into a table of their own")
    found = replace(found, calibration=matched(found.calibration))
    about = replace(predictor.about, name=name, trained_as=predictor.about.trained_as or predictor.about.name)
    with whole_folder(folder) as partial:
        save_model(partial, predictor.model, about, found.calibration, predictor.novelty)
        write_recalibration_card(partial, source, found, command)
    return found


def _check_enough(n_rows: int, n_known: int) -> None:
    if n_rows < MIN_ROWS:
        what = f"{MIN_ROWS} labelled structures that the model was not trained on"
        known = f"; it knows {n_known} by name or geometry: rename files that share only a name"
        raise TableError(f"a calibration needs {what}, not {n_rows}{known if n_known else ''}")


def write_recalibration_card(folder: Path, source: Path, found: Recalibration, command: str) -> None:
    """Write ``card.md`` of a recalibrated model: what was done, then the card of the model it came from.

    Args:
        folder: The new model folder.
        source: The folder of the model it came from.
        found: Its calibration.
        command: The command line that made it.
    """
    names = [read_config(each)["about"]["name"] for each in (folder, source)]
    before, after = found.before, found.after
    rows = [
        f"| {level} % | {before.fraction[level]:.3f} | {before.width_ev[level]:.3g} "
        f"| {after.fraction[level]:.3f} | {after.width_ev[level]:.3g} |"
        for level in before.fraction
    ]
    lines = [
        f"# {names[0]}",
        "",
        f"The weights of {names[1]}; error bars calibrated anew on {found.n_rows} structures that it was not "
        f"trained on. Left out: {found.n_known} that it was trained on, and {found.n_unbalanced} whose "
        f"charges do not add up. {error_bars(folder)}",
        f"On them the mean error of the gaps is {-found.bias_ev:+.3f} eV, and the mean absolute error "
        f"{found.mae_ev:.3f} eV, before and after alike.",
        "",
        "| intervals | coverage before | width before, eV | coverage now | width now, eV |",
        "|---|---|---|---|---|",
        *rows,
        "",
        'What stands under "now" was cross-validated in five folds. In a prediction, error bars of '
        "structures whose charges do not add up are wider than here.",
        *fenced(command),
        f"What follows is the card of {names[1]}; its error bars are those before.",
        "",
        card_of(source),
    ]
    (folder / CARD).write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


def _learnt(index: NoveltyIndex) -> set[str]:
    """Training structures whose gaps of the model's level are known; all of an index that holds no gaps."""
    known = np.isfinite(index.gap_ev)
    return {each for each, is_known in zip(index.ids, known, strict=True) if is_known or not known.any()}


def _coverage(
    calibration: Calibration,
    found: Posterior,
    gap_ev: NDArray[np.float64],
    novelty: NDArray[np.float64],
) -> Coverage:
    gap = np.maximum(found.gap_ev, 0.0)
    std = total_std(found, calibration)
    ends = {f"{100 * p:g}": calibration.interval(gap, std, p, novelty) for p in metrics.LEVELS}
    return Coverage(
        {level: metrics.coverage(gap_ev, *both) for level, both in ends.items()},
        {level: metrics.mean_width(*both) for level, both in ends.items()},
    )
