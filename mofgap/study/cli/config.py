"""``mofgap config``: every setting of a run with its meaning."""

from __future__ import annotations

from typing import Annotated

import typer


def config(
    as_schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="Print the JSON schema instead, by which an editor checks and completes."
        ),
    ] = False,
) -> None:
    """Print a configuration with every setting at its default, and what it means and allows.

    It is a template, with names that stand for your files: put yours, and leave out sections that a run does
    not need and settings that stay at their defaults.
    """
    import json
    from pathlib import Path

    from pydantic import TypeAdapter

    from mofgap.configuration import dump
    from mofgap.study.config import ComparisonConfig, DataConfig
    from mofgap.study.engine.config import RunConfig, RunPretraining, ShardedScreening

    if as_schema:
        typer.echo(json.dumps(TypeAdapter(RunConfig).json_schema(), indent=2))
        return
    everything = RunConfig(
        name="my-run",
        comparison=ComparisonConfig(data=DataConfig(table=Path("labels.parquet"))),
        pretraining=RunPretraining(table=Path("atoms.parquet")),
        screening=ShardedScreening(inputs=("structures/",)),
    )
    typer.echo(dump(everything), nl=False)
