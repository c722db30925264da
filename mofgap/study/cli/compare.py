"""``mofgap compare``: train methods alike, measure them alike, and judge the claims."""

from __future__ import annotations

import typer

from mofgap.study.cli.run import (
    Configuration,
    DryRun,
    Jobs,
    Output,
    Settings,
    carry_out,
    ending,
    open_run,
    show,
)


def compare(
    config: Configuration,
    output: Output = None,
    settings: Settings = None,
    jobs: Jobs = 1,
    dry_run: DryRun = False,
) -> None:
    """Compare fine-tuning methods on one table: errors, error bars, costs and a verdict on each claim.

    Runs the stages of mofgap run on this machine, but not its screening. Both commands use the same run
    folder, and neither repeats what the other has done. Writes predictions.parquet, comparison.parquet,
    comparison.json, comparison.md and report.html, and prints comparison.md.
    """
    from mofgap.study.engine.cluster import Executor
    from mofgap.study.layout import REPORT

    with ending():
        run = open_run(config, output, settings, screening=False)
        run.config.comparison_in(run.path)  # there has to be one
        if dry_run:
            show(run)
            return
        carry_out(run, Executor(jobs))
        typer.echo((run.path / REPORT).read_text(encoding="utf-8"))
