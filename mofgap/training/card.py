"""The card of a model: what it is, what it learnt from, how good it is. Computed, never typed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mofgap.gap.folder import read_config
from mofgap.training.finetune import FinetuneConfig
from mofgap.training.labels import Labels
from mofgap.training.recipe import Outcome

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
        f"Training: {settings}.",
        "The epoch was chosen and the error bars were calibrated on val; test was not looked at.",
        f"Cost: {outcome.seconds / 60:.0f} minutes of wall-clock time for the last run of the command.",
        "",
        "```",
        command,
        "```",
        "",
        "## Quality",
        *table,
        "",
        "Figures on val flatter the model: the calibration was fitted there.",
    ]
    (folder / "card.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
