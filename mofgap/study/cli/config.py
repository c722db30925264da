"""``mofgap config``: every setting of a run with its meaning."""

from __future__ import annotations

from itertools import takewhile
from typing import Annotated

import typer

SECTIONS = ("data", "training", "calibration", "comparison", "pretraining", "screening", "resources")
"""What a template can be about; each has what that section needs."""

TRAINS, SCREENS = (None, "data", "training", "calibration", "resources"), (None, "screening", "resources")


def config(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="SECTION",
            help=f"What the run has: {', '.join(SECTIONS)}. By default it trains and screens.",
        ),
    ] = None,
    as_schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="Print a JSON schema instead, for editors that check and complete YAML."
        ),
    ] = False,
) -> None:
    """Print a configuration: every setting with its default, its meaning and what it allows.

    It runs as it is, on data shipped with mofgap. Put your own files in their place. Leave out the sections
    that you do not need, and the settings that stay at their defaults.
    """
    import json
    from dataclasses import replace
    from pathlib import Path

    from pydantic import TypeAdapter

    from mofgap.configuration import dump
    from mofgap.nearest import hint
    from mofgap.study.config import ComparisonConfig, DataConfig
    from mofgap.study.engine.config import RunCalibration, RunConfig, RunPretraining, ShardedScreening
    from mofgap.training.job import LabelsConfig, ModelTraining

    if as_schema:
        typer.echo(json.dumps(TypeAdapter(RunConfig).json_schema(), indent=2))
        return
    if section is not None and section not in SECTIONS:
        raise typer.BadParameter(
            f"unknown section {section!r}; {hint(section, SECTIONS)}", param_hint="SECTION"
        )
    data = Path("shipped:data/quickstart")
    labels, cifs = data / "labels.csv", data / "structures.zip"
    comparison = ComparisonConfig(data=DataConfig(table=labels, cifs=cifs))
    if section == "pretraining":  # on few structures, to try it: put your own table in its place
        pretraining = RunPretraining(table=data / "atoms.parquet")
        typer.echo(dump(RunConfig("my-run", comparison=comparison, pretraining=pretraining)), nl=False)
        return
    trains = section in TRAINS
    template = RunConfig(
        name="my-run",
        data=LabelsConfig(labels, cifs) if trains else None,
        training=ModelTraining() if trains else None,
        comparison=comparison if section == "comparison" else None,
        screening=ShardedScreening(inputs=("shipped:examples",)) if section in SCREENS else None,
    )
    if not trains:
        typer.echo(dump(template), nl=False)
        return
    calibrated = dump(replace(template, calibration=RunCalibration(labels, cifs)))
    typer.echo(calibrated if section == "calibration" else _without_calibration(calibrated), nl=False)


def _without_calibration(text: str) -> str:
    """A configuration whose calibration is null, with its settings as comments."""
    before, key, after = text.partition("\ncalibration:")
    settings = list(takewhile(lambda line: line.startswith("  "), after.splitlines()[1:]))
    comments = [f"#{line}" for line in settings]
    rest = after.splitlines()[1 + len(settings) :]
    return "\n".join([f"{before}{key} null", *comments, *rest, ""])
