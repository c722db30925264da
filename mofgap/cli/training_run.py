"""What ``mofgap train`` does once its options are read. Heavy to import."""

from __future__ import annotations

import math
from errno import ENOSPC
from pathlib import Path

import typer

from mofgap.cli.exits import NOTHING_DONE, cannot_write, fail, say
from mofgap.cli.options import refused, tell_model
from mofgap.cli.skipped import tell_left_out
from mofgap.cli.tables import command_line, show
from mofgap.configuration import ConfigurationError
from mofgap.crystals.dataset import TableError
from mofgap.gap.folder import ModelError
from mofgap.shipped import CONFIG, LAST
from mofgap.training.job import TrainingJob
from mofgap.training.lock import KEY, WORK
from mofgap.training.loop import TrainingError
from mofgap.training.notes import notes_on_training
from mofgap.training.recipe import check_model_folder


def check_output(output: Path, *, resume: bool) -> None:
    """Refuse a folder that holds other files, another model or, unless it is resumed, a training.

    Raises:
        typer.BadParameter: If ``output`` is a file, or holds files and no training.
        typer.Exit: If ``output`` holds a model or a training that must stay, or a damaged one.
    """
    begun = (output / CONFIG, output / WORK / KEY, output / WORK / LAST)
    taken = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if taken and not any(path.exists() for path in begun):
        what = f"{output} exists, and is no training"
        raise typer.BadParameter(f"{what}; name a new folder", param_hint="--output")
    try:
        check_model_folder(output, resume=resume)
    except TrainingError as error:
        fail(error, NOTHING_DONE)


def execute(job: TrainingJob, output: Path, *, resume: bool) -> None:
    """Train, write the model folder with its card, and print the scores."""
    command = command_line()
    try:
        table = job.read()
        tell_left_out(table)
        outcome = job.train(table, output, output.name, command, resume=resume, progress=True)
    except ConfigurationError as error:
        with refused():
            raise error
    except (TableError, ModelError, TrainingError, OSError) as error:
        if isinstance(error, OSError) and error.errno == ENOSPC:
            words = cannot_write(output, error)
            fail(f"{words}; what was trained is kept, and --resume goes on with it", NOTHING_DONE)
        fail(error, NOTHING_DONE)
    show_scores(outcome.metrics)
    for line in notes_on_training(output, job.training.from_model):
        say(line)
    tell_model(output)


def show_scores(metrics: dict[str, dict[str, float]]) -> None:
    """Print the scores of each split, with 95 % intervals in brackets where there are some."""
    shown = {
        "n": "structures",
        "mae_ev": "MAE, eV",
        "spearman": "Spearman(std, |error|)",
        "coverage_90": "coverage of 90 % intervals",
        "width_90_ev": "mean width of 90 % intervals, eV",
    }
    if not metrics:
        return
    rows = [
        {"split": label} | {split: _score(found, key) for split, found in metrics.items()}
        for key, label in shown.items()
    ]
    show(rows, {name: name for name in ("split", *metrics)})


def _score(metrics: dict[str, float], name: str) -> str:
    if name == "n":
        return f"{metrics['n']:.0f}"
    if not math.isfinite(value := metrics[name]):
        return "-"
    ends = [metrics[f"{name}{end}"] for end in ("_lo", "_hi") if f"{name}{end}" in metrics]
    return f"{value:.3f} ({ends[0]:.3f} to {ends[1]:.3f})" if ends else f"{value:.3f}"
