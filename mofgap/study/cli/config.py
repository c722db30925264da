"""``mofgap config``: every setting of a run with its meaning."""

from __future__ import annotations

from typing import Annotated

import typer

SECTIONS = ("training", "comparison", "pretraining", "screening")
"""What a template can be about; ``data`` and ``calibration`` belong to ``training``."""


def config(
    section: Annotated[
        str | None,
        typer.Argument(help=f"Print a run of this alone: {', '.join(SECTIONS)}. Trains and screens without."),
    ] = None,
    as_schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="Print the JSON schema instead, by which an editor checks and completes."
        ),
    ] = False,
) -> None:
    """Print a configuration with every setting at its default, and what it means and allows.

    It runs as it is, on the data that ship with mofgap: put your files in their place, and leave out sections
    that a run does not need and settings that stay at their defaults.
    """
    import json
    from pathlib import Path

    from pydantic import TypeAdapter

    from mofgap.configuration import dump
    from mofgap.nearest import hint
    from mofgap.study.config import ComparisonConfig, DataConfig
    from mofgap.study.engine.config import RunConfig, RunPretraining, ShardedScreening
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
    trains, screens = section in (None, "training"), section in (None, "screening")
    template = RunConfig(
        name="my-run",
        data=LabelsConfig(labels, cifs) if trains else None,
        training=ModelTraining() if trains else None,
        comparison=comparison if section == "comparison" else None,
        screening=ShardedScreening(inputs=("shipped:examples",)) if screens else None,
    )
    typer.echo(dump(template), nl=False)
