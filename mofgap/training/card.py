"""The card of a model: what it is, what it learnt from, how good it is. Computed, never typed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from mofgap.gap.folder import CALIBRATION, read_config
from mofgap.training.atoms import ATOM_TARGETS
from mofgap.training.finetune import FinetuneConfig
from mofgap.training.labels import Labels
from mofgap.training.recalibration import Recalibration
from mofgap.training.recipe import Outcome
from mofgap.uncertainty.calibrate import Calibration

CARD = "card.md"

_SHOWN = {
    "n": "structures",
    "mae_ev": "mean absolute error, eV",
    "rmse_ev": "root mean squared error, eV",
    "r2": "R²",
    "spearman": "Spearman of std against absolute error",
    "spearman_expected": "the same, were errors drawn from the predicted spreads",
    "crps_ev": "CRPS, eV",
    "miscalibration_area": "miscalibration area",
    "coverage_50": "coverage of 50 % intervals",
    "coverage_80": "coverage of 80 % intervals",
    "coverage_90": "coverage of 90 % intervals",
    "coverage_95": "coverage of 95 % intervals",
    "width_90_ev": "mean width of 90 % intervals, eV",
}


def write_card(folder: Path, labels: Labels, outcome: Outcome, config: FinetuneConfig, command: str) -> None:
    """Write ``card.md`` into a model folder.

    Args:
        folder: The model folder.
        labels: What it learnt from.
        outcome: How it did.
        config: How it was trained.
        command: The command line that made it.
    """
    described = read_config(folder)
    about, model = described["about"], described["model"]
    counts = labels.frame.split.value_counts()
    splits = ", ".join(f"{split} {counts[split]}" for split in ("train", "val", "test") if split in counts)
    splits_scored = list(outcome.metrics)
    table = [f"| | {' | '.join(splits_scored)} |", f"|---|{'---|' * len(splits_scored)}"]
    for key, label in _SHOWN.items():
        values = " | ".join(f"{outcome.metrics[split][key]:.4g}" for split in splits_scored)
        table.append(f"| {label} | {values} |")
    settings = ", ".join(f"{key} {value}" for key, value in asdict(config).items())
    lines = [
        f"# {about['name']}",
        "",
        f"Predicts: {about['target']}. Level of theory of the labels: {about['level_of_theory']}.",
        "",
        "## Data",
        f"Column `{labels.target}` of {len(labels.frame)} structures ({splits}).",
        f"{about['citation'] or 'No citation was given.'}",
        "",
        "## Method",
        f"{model['method']} on the encoder {model['encoder']}: rank {model['rank']} adapters on "
        f"{', '.join(model['target_modules'])}; {outcome.n_trainable:,} trained parameters.",
        *_parentage(outcome),
        f"Training: {settings}.",
        f"The epoch was chosen on val; test was not looked at. {_error_bars(folder)}",
        f"Cost: {outcome.seconds / 60:.0f} minutes of wall-clock time for the last run of the command.",
        "",
        "```",
        command,
        "```",
        "",
        "## Quality",
        *table,
        "",
        "Figures on val flatter the model: the epoch was chosen and the error bars were fitted there.",
    ]
    (folder / CARD).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_recalibration_card(folder: Path, source: Path, found: Recalibration, command: str) -> None:
    """Write ``card.md`` of a recalibrated model: what was done, then the card of the model it came from.

    Args:
        folder: The new model folder.
        source: The folder of the model it came from.
        found: Its calibration.
        command: The command line that made it.
    """
    names = [read_config(each)["about"]["name"] for each in (folder, source)]
    old = source / CARD
    rows = [
        f"| {level} % | {before:.3f} | {found.before.width_ev[level]:.3g} | {found.after.fraction[level]:.3f} "
        f"| {found.after.width_ev[level]:.3g} |"
        for level, before in found.before.fraction.items()
    ]
    lines = [
        f"# {names[0]}",
        "",
        f"The weights of {names[1]}; error bars calibrated anew on {found.n_rows} structures that it was not "
        f"trained on ({found.n_known} more were left out because it was). {_error_bars(folder)}",
        f"On them the label exceeds the gap by {found.bias_ev:+.3f} eV on average, and the mean absolute error "
        f"is {found.mae_ev:.3f} eV, before and after alike.",
        "",
        "| intervals | coverage before | width before, eV | coverage now | width now, eV |",
        "|---|---|---|---|---|",
        *rows,
        "",
        'What stands under "now" was cross-validated in five folds.',
        "",
        "```",
        command,
        "```",
        "",
        f"What follows is the card of {names[1]}; its error bars are those before.",
        "",
        old.read_text(encoding="utf-8") if old.exists() else "It has none.",
    ]
    (folder / CARD).write_text("\n".join(lines).rstrip("\n") + "\n", encoding="utf-8")


def _parentage(outcome: Outcome) -> list[str]:
    if not outcome.parent:
        return []
    return [
        f"Started from the gap model {outcome.parent}, its gaps put on the line through the labels of train; "
        "adapters, noise network and head moved from there, the encoder did not. Novelty is the distance from "
        f"the structures of train and those of {outcome.parent}."
    ]


def _error_bars(folder: Path) -> str:
    calibration = Calibration.load(folder / CALIBRATION)
    record = calibration.record
    if record is None:
        return "There were too few structures to calibrate the error bars: they are raw, without a guarantee."
    if record.n_scaling == 0:
        return f"The intervals are conformal on {record.n_residuals} structures; the scaling was kept."
    return f"Scaling ({record.n_scaling} structures) and intervals ({record.n_residuals} others) were calibrated."


def write_encoder_card(folder: Path, n_train: int, command: str, citation: str) -> None:
    """Write ``card.md`` into the folder of a pretrained encoder.

    Args:
        folder: Holds ``encoder.json`` and ``metrics.csv``.
        n_train: Structures it learnt from.
        command: The command line that made it.
        citation: Of the data, with its licence.
    """
    described = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    epochs = pd.read_csv(folder / "metrics.csv").dropna(subset=["val_loss"])
    best = epochs.nsmallest(1, "val_loss").iloc[0]
    table = ["| on val | mean absolute error |", "|---|---|"]
    table += [f"| {label} | {best[f'val_mae_{name}']:.4f} |" for name, label in ATOM_TARGETS.items()]
    lines = [
        f"# {folder.name}",
        "",
        "A pretrained encoder: crystal graphs in, atom features out.",
        f"Configuration: {', '.join(f'{key} {value}' for key, value in described['encoder'].items())}.",
        "",
        "## Data",
        f"Per-atom targets of {n_train} structures; {citation or 'no citation was given.'}",
        "",
        "## Method",
        "Regression of the targets below, and classification of masked elements.",
        f"Training: {', '.join(f'{key} {value}' for key, value in described['pretraining'].items())}.",
        "",
        "```",
        command,
        "```",
        "",
        "## Quality",
        *table,
        "",
        f"Masked elements named correctly: {best['val_element_accuracy']:.1%}. Best epoch: {best.epoch:.0f}.",
    ]
    (folder / "card.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
