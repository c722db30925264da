"""``mofgap calibrate``: error bars of a model from one's own labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mofgap.choices import MAX_ATOMS
from mofgap.cli.exits import say, told
from mofgap.cli.options import MaxAtoms, PartialOccupancies, needs_file, needs_model, tell_model
from mofgap.cli.schema import option_of
from mofgap.cli.skipped import tell_left_out
from mofgap.cli.tables import command_line, show
from mofgap.cli.train import CifsArgument
from mofgap.plain_words import meaning, settings_of
from mofgap.training.job import LabelsConfig

if TYPE_CHECKING:
    from mofgap.training.recalibration import Recalibration


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped model, or a model folder.")],
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help=meaning(settings_of(LabelsConfig)["labels"]))
    ],
    cifs: CifsArgument = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Model folder to write.")
    ] = Path("calibrated"),
    target: Annotated[str, option_of(LabelsConfig, "target")] = "gap_ev",
    max_atoms: MaxAtoms = MAX_ATOMS,
    disorder: PartialOccupancies = "refuse",
) -> None:
    """Fit the error bars of a model to labelled structures that it was not trained on.

    The gaps stay as they are, and a new folder is written. With 25 structures the intervals become conformal,
    and one factor scales all standard deviations. With 200 each part has its own factor. With 250 both tails
    outside an interval hold the same share. With 800 intervals differ between groups of novelty.
    """
    if output.exists():
        raise typer.BadParameter(f"{output} exists; name a new folder", param_hint="--output")
    needs_model(model)
    for path in (labels, cifs):
        if path is not None:
            needs_file(path)
    from mofgap.gap.folder import find_model
    from mofgap.training.labels import read_labels
    from mofgap.training.notes import notes_on_calibration
    from mofgap.training.recalibration import recalibrated

    with told():
        source = find_model(model)
        table = read_labels(labels, cifs, target, needed=(), disorder=disorder, max_atoms=max_atoms)
        tell_left_out(table, "warning:")  # it is told below how many were used
        found = recalibrated(source, table, output, output.name, command_line())
    for line in notes_on_calibration(found, target):
        say(line)
    _show(found)
    tell_model(output)


def _show(found: Recalibration) -> None:
    """Print coverage and width of the intervals, before and now."""
    rows = [
        {
            "intervals": f"{level} %",
            "coverage before": f"{found.before.fraction[level]:.3f}",
            "width before, eV": f"{found.before.width_ev[level]:.3g}",
            "coverage now": f"{found.after.fraction[level]:.3f}",
            "width now, eV": f"{found.after.width_ev[level]:.3g}",
        }
        for level in found.before.fraction
    ]
    show(rows, {name: name for name in rows[0]})
    say("coverage and width now were cross-validated in five folds")
