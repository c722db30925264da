"""What ``mofgap train`` does once its options are read. Heavy to import."""

from __future__ import annotations

import math
from errno import ENOSPC
from pathlib import Path

import typer

from mofgap.cli.exits import NOTHING_DONE, fail, say
from mofgap.cli.options import refused, tell_model
from mofgap.cli.skipped import tell_left_out
from mofgap.cli.tables import command_line, show
from mofgap.configuration import ConfigurationError
from mofgap.crystals.dataset import TableError
from mofgap.gap.folder import CALIBRATION, ModelError, find_model, read_config
from mofgap.shipped import CONFIG, LAST
from mofgap.training.calibration import MIN_ROWS, MIN_SCALING_ROWS
from mofgap.training.config import MIN_CORRECTION_ROWS
from mofgap.training.job import TrainingJob
from mofgap.training.lock import KEY, WORK
from mofgap.training.loop import TrainingError
from mofgap.training.recipe import check_model_folder
from mofgap.uncertainty.calibrate import Calibration


def check_output(output: Path, *, resume: bool) -> None:
    """Refuse a folder that holds other files, another model or, unless it is resumed, a training."""
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
            words = f"cannot write {error.filename or output}: {error.strerror}"
            fail(f"{words}; what was trained is kept, and --resume goes on with it", NOTHING_DONE)
        fail(error, NOTHING_DONE)
    show_scores(outcome.metrics)
    if outcome.known:
        counts = " and ".join(f"{n} of {split}" for split, n in outcome.known.items())
        words = f"{outcome.parent} was trained on {counts}: their scores have columns of their own"
        typer.echo(f"{words}, and are too good", err=True)
    calibration = Calibration.load(output / CALIBRATION)
    from_model = job.training.from_model
    if calibration.record is not None and not calibration.record.n_scaling and from_model is None:
        words = f"fewer than {MIN_SCALING_ROWS} labels calibrate the error bars: read the interval"
        say(f"{words}, since standard deviations are not scaled to the errors")
    if calibration.is_raw:
        words = "too few labels to calibrate the error bars, which are the network's own, without a guarantee"
        how = "if none has a split" if from_model else "with --from qmof-pbe"
        if outcome.known:
            how = f"of structures that {outcome.parent} was not trained on"
        say(f"{words}; {MIN_ROWS} labels are enough {how}")
    if from_model is not None and loses_correction(find_model(from_model), output):
        words = (
            f"the model has no neighbour correction, which needs {MIN_CORRECTION_ROWS:,} training structures"
        )
        one, other = (
            read_config(each)["about"]["level_of_theory"] for each in (find_model(from_model), output)
        )
        cure = f"; compare its errors with those of {from_model} before you use it"
        is_other = "unknown" not in (one, other) and not one.startswith(other)
        say(words + ("" if is_other else cure))
    tell_model(output)


def loses_correction(parent: Path, folder: Path) -> bool:
    """Whether a trained model lacks the neighbour correction that the model it started from has."""
    before, now = (read_config(each)["model"].get("correction_size", 0) for each in (parent, folder))
    return bool(before and not now)


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
