"""``mofgap config``: every setting of a run with its meaning."""

from __future__ import annotations

import typer


def config() -> None:
    """Print a configuration with every setting at its default, and what it means and allows.

    It is a template, with names that stand for your files: put yours, and leave out sections that a run does
    not need and settings that stay at their defaults.
    """
    from pathlib import Path

    from mofgap.configuration import dump
    from mofgap.study.config import ComparisonConfig, DataConfig
    from mofgap.study.engine.config import PretrainingConfig, RunConfig, ScreeningConfig

    everything = RunConfig(
        name="my-run",
        comparison=ComparisonConfig(data=DataConfig(table=Path("labels.parquet"))),
        pretraining=PretrainingConfig(table=Path("atoms.parquet")),
        screening=ScreeningConfig(inputs=("structures/",)),
    )
    typer.echo(dump(everything), nl=False)
