"""The commands of the study, one file per verb, and how they join those of the product."""

from __future__ import annotations

import typer

from mofgap.cli.report import PAGE_OF_FOLDER
from mofgap.study.cli.compare import compare
from mofgap.study.cli.config import config
from mofgap.study.cli.report import page_of_run
from mofgap.study.cli.run import run
from mofgap.study.cli.runs import runs
from mofgap.study.cli.stage import stage


def add_commands(app: typer.Typer) -> None:
    """Add the study's verbs to the program, and teach ``mofgap report`` run folders."""
    for verb in (compare, run):
        app.command(no_args_is_help=True)(verb)
    app.command()(config)
    app.command(hidden=True)(stage)
    app.add_typer(runs, name="runs")
    PAGE_OF_FOLDER[:] = [page_of_run]
