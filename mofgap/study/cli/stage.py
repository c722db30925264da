"""``mofgap stage``: one job of a run. The engine calls it on a cluster; nobody has to."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.exits import told

NOBODY = (
    "as {node} sees it, no mofgap run is at work in {path}: it has ended, or the locks of this file system "
    "do not hold between machines"
)


def stage(
    name: Annotated[str, typer.Argument(help="Name of the stage, such as train/split/lora-seed0.")],
    run: Annotated[Path, typer.Option(help="Run folder.")],
    seen_from: Annotated[
        Path, typer.Option(help="Where relative paths of the configuration count from.")
    ] = Path(),
    of_run: Annotated[
        bool, typer.Option("--of-run", hidden=True, help="Refuse unless mofgap run is at work on the run.")
    ] = False,
    rank: Annotated[
        bool, typer.Option("--rank", hidden=True, help="Do the share of one process that srun started.")
    ] = False,
) -> None:
    """Do one stage of a run, unless it is done already with the same inputs, code and configuration."""
    from mofgap.study.engine.folder import RunError, RunFolder
    from mofgap.study.engine.plan import plan, stage_named
    from mofgap.study.engine.ranks import work_in_rank
    from mofgap.study.engine.stage import run_stage

    folder = RunFolder(run.resolve())
    os.chdir(seen_from)
    with told():
        if of_run and not folder.is_locked():
            raise RunError(NOBODY.format(path=folder.path, node=platform.node()))
        config = folder.config
        wanted = stage_named(plan(config, folder.path), name)
        threads = config.resources.of(wanted.rule).cpus
        if rank:
            work_in_rank(lambda: wanted.work(config, folder.path), name, folder, threads)
            return
        did = run_stage(wanted, config, folder, threads)
    typer.echo(f"{name}: {'done' if did else 'unchanged'}", err=True)
