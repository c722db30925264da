"""``mofgap compare``: train methods alike, measure them alike, and judge the claims."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.exits import NOTHING_DONE, fail


def compare(
    config: Annotated[
        Path, typer.Argument(help="YAML configuration with a comparison, such as configs/qmof.yaml.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder; taken up where it is.")] = Path(
        "comparison"
    ),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting of the comparison, such as recipe.epochs=5."
        ),
    ] = None,
) -> None:
    """Compare fine-tuning methods on one table: errors, error bars, costs and a verdict on each claim.

    Writes predictions.parquet, comparison.parquet, comparison.json and comparison.md. Whatever an earlier run
    in the same folder finished is kept, and trained again only where its own settings changed.
    """
    from mofgap.configuration import ConfigurationError, load
    from mofgap.crystals.dataset import TableError
    from mofgap.gap.folder import ModelError
    from mofgap.study.engine import comparison as stages
    from mofgap.study.engine.config import RunConfig
    from mofgap.study.engine.folder import RunError, RunFolder
    from mofgap.study.layout import REPORT
    from mofgap.training.loop import TrainingError

    try:
        run = load(RunConfig, config, [f"comparison.{setting}" for setting in settings or ()])
        comparison = run.comparison_in(output)
        # One more process of a training on several devices works in the folder that the first has locked.
        leads = int(os.environ.get("LOCAL_RANK", "0")) == 0
        folder = RunFolder(output)
        with folder.locked("run", wait=False) if leads else nullcontext():
            if leads:
                folder.write_config(run)
            stages.run_all(comparison, output, lambda line: typer.echo(line, err=True))
    except (ConfigurationError, TableError, ModelError, TrainingError, RunError, OSError) as error:
        fail(str(error), NOTHING_DONE)
    typer.echo((output / REPORT).read_text(encoding="utf-8"))
