"""What ``mofgap train`` does once its options are read. Heavy to import."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from mofgap.cli.exits import NOTHING_DONE, fail
from mofgap.cli.options import refused
from mofgap.cli.skipped import tell_skipped
from mofgap.crystals.dataset import TableError
from mofgap.gap.folder import CONFIG, About, ModelError, find_model
from mofgap.gap.model import GapModelConfig
from mofgap.training.card import write_card
from mofgap.training.config import TrainingConfig
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.labels import Labels
from mofgap.training.lock import KEY
from mofgap.training.loop import LAST, TrainingError
from mofgap.training.network import network
from mofgap.training.recipe import FEW_LABELS, train


def check_output(output: Path) -> None:
    """Refuse a folder of other files, among which those of the model would be lost."""
    begun = (output / CONFIG, output / "training" / KEY, output / "training" / LAST)
    taken = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if taken and not any(path.exists() for path in begun):
        what = f"{output} exists, and is no training"
        raise typer.BadParameter(f"{what}; name a new folder", param_hint="--output")


def execute(
    read: Callable[..., Labels],
    output: Path,
    config: TrainingConfig,
    model: str | None,
    encoder: str,
    about: About,
    **how: Any,
) -> None:
    """Train, write the model folder with its card, and tell the scores.

    Args:
        read: Reads the labels; fewer than its argument ``few`` are not dealt to splits.
        output: The model folder.
        config: What is trained, and how.
        model: Name or folder of the gap model to go on from; None starts from an encoder.
        encoder: Name or folder of that encoder.
        about: Name, level of theory and citation to keep with the model.
        how: ``cache``, ``resume`` and ``compute`` of `mofgap.training.recipe.train`.
    """
    try:
        start, made_of = _start(model, encoder, config)
        table = read(few=0 if model is None else FEW_LABELS)
        tell_skipped(table.skipped)
        tell_skipped(table.notes, "used")
        outcome = train(table, output, made_of, config.finetuning, start, about, **how)
    except (TableError, ModelError, TrainingError, OSError) as error:
        fail(str(error), NOTHING_DONE)
    write_card(output, table, outcome, config.finetuning, shlex.join(["mofgap", *sys.argv[1:]]), start)
    typer.echo(scores(outcome.metrics))
    if outcome.known:
        counts = " and ".join(f"{n} of {split}" for split, n in outcome.known.items())
        words = f"{outcome.parent} learnt from {counts} before: their scores stand apart, and flatter"
        typer.echo(words, err=True)
    typer.echo(f"{output}: mofgap screen --model {output} *.cif", err=True)


def _start(model: str | None, encoder: str, config: TrainingConfig) -> tuple[Path, GapModelConfig | None]:
    """Where the weights come from, and what is built on an encoder; a gap model brings its own."""
    if model is not None:
        return find_model(model), None
    found = find_encoder(encoder)
    with refused():
        return found.weights, network(config, found)


def scores(metrics: dict[str, dict[str, float]]) -> str:
    """The scores of each split, tab-separated, with 95 % intervals in brackets."""
    shown = {
        "n": "structures",
        "mae_ev": "MAE, eV",
        "spearman": "Spearman(std, |error|)",
        "coverage_90": "coverage of 90 % intervals",
    }
    rows = [["split", *metrics]]
    rows += [[label, *(_score(m, key) for m in metrics.values())] for key, label in shown.items()]
    return "\n".join("\t".join(row) for row in rows)


def _score(metrics: dict[str, float], name: str) -> str:
    if name == "n":
        return f"{metrics['n']:.0f}"
    value, lo, hi = (metrics[f"{name}{end}"] for end in ("", "_lo", "_hi"))
    return f"{value:.3f} ({lo:.3f} to {hi:.3f})" if math.isfinite(value) else "-"
