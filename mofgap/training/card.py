"""The card of a model: what it is, what it was trained on, how good it is. It is always computed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from mofgap.counts import counted
from mofgap.crystals.elements import symbol_of
from mofgap.gap.correction import NUGGET
from mofgap.gap.folder import CALIBRATION, About, read_config, rename
from mofgap.gap.posterior import DISAGREEMENT
from mofgap.shipped import CARD, DESCRIPTION, LOG
from mofgap.training.atoms import ATOM_TARGETS, XTB_TARGETS
from mofgap.training.calibration import MIN_SPEARMAN_ROWS
from mofgap.training.config import N_FOLDS, FinetuneConfig
from mofgap.training.labels import SPLITS, Labels
from mofgap.training.lock import WORK
from mofgap.training.result import CROSS_FITTED, TrainingResult
from mofgap.training.unseen import element_counts
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.scaling import Scaling

_SHOWN = {
    "n": "structures",
    "mae_ev": "mean absolute error, eV",
    "rmse_ev": "root mean squared error, eV",
    "r2": "R²",
    "spearman": "Spearman of std against absolute error",
    "spearman_expected": "the same, if errors were drawn from the predicted standard deviations",
    "crps_ev": "CRPS, eV",
    "miscalibration_area": "miscalibration area of a Gaussian with that standard deviation",
    "predictive_area": "the same of the distribution behind intervals and windows",
    "coverage_50": "coverage of 50 % intervals",
    "coverage_80": "coverage of 80 % intervals",
    "coverage_90": "coverage of 90 % intervals",
    "coverage_95": "coverage of 95 % intervals",
    "width_90_ev": "mean width of 90 % intervals, eV",
}
_BETTER = "are better than those of new structures"


def write_card(
    folder: Path,
    labels: Labels,
    outcome: TrainingResult,
    config: FinetuneConfig,
    command: str,
    start: Path | None = None,
) -> None:
    """Write ``card.md`` into a model folder.

    Args:
        folder: The model folder.
        labels: The labels that it was trained on.
        outcome: How it did.
        config: How it was trained.
        command: The command line that made it.
        start: Encoder file or folder of the gap model it started from. The card of a model is added where
            its weights stayed.
    """
    described = read_config(folder)
    about, model = described["about"], described["model"]
    counts = labels.frame.split.value_counts()
    splits = ", ".join(f"{split} {counts[split]}" for split in SPLITS if split in counts)
    title, predicts, citation = _about_lines(about)
    lines = [
        title,
        "",
        predicts,
        "",
        "## Data",
        f"Column `{labels.target}` of {len(labels.frame)} structures ({splits}).",
        citation,
        _elements(labels.frame),
        *_substituted(model),
        "",
        "## Method",
        _network(model, outcome),
        *_history(folder, outcome, config),
        _epistemic(model),
        f"Nothing was fitted on test. {error_bars(folder)}",
        *fenced(command),
        "## Quality",
        *_quality(outcome, config, calibrated=Calibration.load(folder / CALIBRATION).record is not None),
    ]
    if start is not None and not config.epochs:
        lines += ["", f"What follows is the card of {outcome.parent}; its figures are those before.", ""]
        lines.append(card_of(start))
    (folder / CARD).write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


def _about_lines(about: Mapping[str, str]) -> tuple[str, str, str]:
    """The lines of a card that say what the model is: its title, what it predicts, and whom to cite."""
    predicts = f"Predicts: {about['target']}. Level of theory of the labels: {about['level_of_theory']}."
    return f"# {about['name']}", predicts, about["citation"] or "No citation was given."


def describe_anew(folder: Path, about: About) -> None:
    """Give a trained model another name, level of theory or citation, in its ``config.json`` and its card.

    Raises:
        ModelError: If ``folder`` holds no model.
    """
    text, before = f"\n{card_of(folder)}", read_config(folder)["about"]
    rename(folder, about)
    for old, new in zip(_about_lines(before), _about_lines(read_config(folder)["about"]), strict=True):
        text = text.replace(f"\n{old}\n", f"\n{new}\n", 1)  # whole lines: a word may stand elsewhere too
    (folder / CARD).write_text(text.removeprefix("\n"), encoding="utf-8")


def _elements(frame: pd.DataFrame) -> str:
    """A sentence on the elements that the model was trained on."""
    known = frame.atomic_numbers[frame.split == "train"]
    symbols = [symbol_of(z) for z, n in enumerate(element_counts(known)) if n]
    return f"The structures of train have {counted(len(symbols), 'element')}: {', '.join(symbols)}."


def _substituted(model: dict[str, Any]) -> list[str]:
    """A sentence on elements that are read as others."""
    what = "Elements that neither it nor its encoder was trained on, each treated as similar ones"
    return [f"{what}: {', '.join(model['substitutes'])}."] if model["substitutes"] else []


def _quality(outcome: TrainingResult, config: FinetuneConfig, *, calibrated: bool) -> list[str]:
    """A table of the metrics, and what makes them look better than they are."""
    scored = list(outcome.metrics)
    if not scored:
        return ["Nothing was held out to measure it by."]
    table = [f"| | {' | '.join(scored)} |", f"|---|{'---|' * len(scored)}"]
    for key, label in _SHOWN.items():
        values = " | ".join(_cell(outcome.metrics[split], key) for split in scored)
        table.append(f"| {label} | {values} |")
    table += ["", "In brackets: 95 % intervals over the choice of structures, by bootstrap."]
    if any(m["n"] < MIN_SPEARMAN_ROWS for m in outcome.metrics.values()):
        table += [f"A rank correlation of fewer than {MIN_SPEARMAN_ROWS} structures is not given."]
    if outcome.known:
        shares = " and ".join(f"{counted(n, 'structure')} of {split}" for split, n in outcome.known.items())
        words = f"{outcome.parent} was trained on {shares} before. Their figures stand apart, since they"
        table += ["", f"{words} {_BETTER}. The error bars were not fitted to them."]
    chosen_on_val = ["the epoch was chosen"] if config.epochs else []
    chosen_on_val += ["the error bars were fitted"] if calibrated else []
    if _has(outcome, "val") and chosen_on_val:
        table += ["", f"Figures on val {_BETTER}: {' and '.join(chosen_on_val)} there."]
    elif _has(outcome, CROSS_FITTED) and calibrated:
        words = (
            "The error bars were fitted to the cross-fitted errors, so that their coverage is no surprise."
        )
        table += ["", words]
    return table


def _has(outcome: TrainingResult, split: str) -> bool:
    """Whether structures of a split were held out, known before or not."""
    return split in outcome.metrics or split in outcome.known


def _cell(metrics: Mapping[str, float], name: str) -> str:
    """A metric as a card shows it, with its interval where it has one."""
    if not math.isfinite(metrics[name]):
        return "–"
    if name == "n":
        return f"{metrics[name]:.0f}"
    if f"{name}_lo" not in metrics:
        return f"{metrics[name]:.4g}"
    return f"{metrics[name]:.4g} ({metrics[f'{name}_lo']:.3g} to {metrics[f'{name}_hi']:.3g})"


def fenced(command: str) -> list[str]:
    """The lines of a card that show a command, apart from what is around them."""
    return ["", "```", command, "```", ""]


def card_of(folder: Path) -> str:
    """The card of a model folder."""
    path = folder / CARD
    return path.read_text(encoding="utf-8") if path.exists() else "It has none."


def _choice(folder: Path, outcome: TrainingResult) -> str:
    """A sentence on when the training ended."""
    if _has(outcome, "val"):
        best = _best_epoch(folder / WORK / LOG, "val_mae_ev")
        return f"The epoch was chosen on val. It was epoch {best.epoch + 1:.0f}."
    if _has(outcome, CROSS_FITTED):
        return (
            f"All epochs were run on all of train. What is called {CROSS_FITTED} was predicted by {N_FOLDS} "
            "more models, each trained without the structures that it predicts."
        )
    return "All epochs were run."


def _best_epoch(log: Path, by: str) -> pd.Series[float]:
    """What the log of a training says of the epoch with the smallest value of a metric."""
    return pd.read_csv(log).dropna(subset=[by]).nsmallest(1, by).iloc[0]


def _network(model: Mapping[str, Any], outcome: TrainingResult) -> str:
    """A sentence on the network and what was trained of it."""
    words = f"{model['method']} on the encoder {model['encoder']}"
    if model["method"] != "full":
        words += f": rank {model['rank']} adapters on {', '.join(model['target_modules'])}"
    return words + (f"; {outcome.n_trainable:,} trained parameters." if outcome.n_trainable else ".")


def _epistemic(model: dict[str, Any]) -> str:
    """A sentence on the epistemic part of the error bars of a model described in ``config.json``."""
    networks = (
        f" {DISAGREEMENT:g} of the standard deviation of the networks' gaps is added in squares."
        if model.get("members")
        else ""
    )
    if model["correction_sketch"]:
        return (
            "Epistemic standard deviation: the distance from the nearest training structure, in the geometry "
            f"of the adapters' gradients, plus {NUGGET:g} of the usual distance.{networks}"
        )
    if model["correction_size"]:
        return (
            "Epistemic standard deviation: the root mean square of the training residuals times the root of "
            f"the relative distance from the nearest training structure.{networks}"
        )
    if model["method"] == "balora":
        return "Epistemic standard deviation: the closed form of the adapters' posterior."
    return "It has no epistemic standard deviation."


def _history(folder: Path, outcome: TrainingResult, config: FinetuneConfig) -> list[str]:
    """Where the training started, what was trained, and how."""
    if not config.epochs:
        fitted = "neighbour correction, error bars and novelty were fitted again"
        return [f"The weights are those of {outcome.parent}; {fitted}."]
    lines = []
    if outcome.parent:
        lines.append(
            f"Started from the gap model {outcome.parent}, with its gaps on the line that fits the labels of "
            "train best. Adapters, noise network and head were trained."
        )
    if config.unfreeze:
        lines.append("The encoder's weights without adapters were trained too, without noise.")
    elif outcome.parent:
        lines.append(
            "The encoder was not trained. Novelty is the distance from the structures of train and those of "
            f"{outcome.parent}."
        )
    return [*lines, f"Training: {_listed(asdict(config))}.", _choice(folder, outcome)]


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def error_bars(folder: Path) -> str:
    """A sentence on where the error bars of a model folder come from."""
    calibration = Calibration.load(folder / CALIBRATION)
    record = calibration.record
    if record is None:
        which = "too few structures on which no part of the model was trained"
        return f"There were {which} to calibrate the error bars: they are raw, without a guarantee."
    groups = len(calibration.residuals)
    apart = f", in {groups} groups of novelty" if groups > 1 else ""
    intervals = "intervals (with equal tails)" if calibration.equal_tails else "intervals (symmetric)"
    if record.n_scaling == 0:
        where = f"on {record.n_residuals} structures{apart}"
        own = calibration.scaling == Scaling()
        said = "are the network's own" if own else "were all multiplied by one factor"
        return f"The {intervals} are conformal {where}. The standard deviations {said}."
    return (
        f"The scaling of the spread was fitted on {record.n_scaling} structures, and the {intervals} are "
        f"conformal on {record.n_residuals} of them{apart}, each judged by a scaling fitted without it."
    )


def write_encoder_card(folder: Path, n_train: int, command: str, citation: str) -> None:
    """Write ``card.md`` into the folder of a pretrained encoder.

    Args:
        folder: Holds ``encoder.json`` and ``metrics.csv``.
        n_train: Number of training structures.
        command: The command line that made it.
        citation: Citation of the data, with its licence.
    """
    described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    best = _best_epoch(folder / LOG, "val_loss")
    table = ["| on val | mean absolute error |", "|---|---|"]
    errors = ((label, best.get(f"val_mae_{name}")) for name, label in (ATOM_TARGETS | XTB_TARGETS).items())
    table += [f"| {label} | {error:.4f} |" for label, error in errors if error is not None]
    lines = [
        f"# {folder.name}",
        "",
        f"A pretrained encoder ({described['architecture']}): crystal graphs in, atom features out.",
        f"Configuration: {_listed(described['encoder'])}.",
        "",
        "## Data",
        f"Per-atom targets of {n_train} structures; {citation or 'no citation was given.'}",
        "",
        "## Method",
        "Regression of the targets below, and classification of masked elements.",
        f"Training: {_listed(described['pretraining'])}.",
        *fenced(command),
        "## Quality",
        *table,
        "",
        f"Best epoch: {best.epoch + 1:.0f}.",
    ]
    if (accuracy := best.get("val_element_accuracy")) is not None:
        lines.append(f"Masked elements named correctly: {accuracy:.1%}.")
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")
