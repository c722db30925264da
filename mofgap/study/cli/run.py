"""``mofgap run``: a whole run from one configuration, here or on a cluster."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.exits import INTERRUPTED, NOTHING_DONE, fail


def run(
    config: Annotated[Path, typer.Argument(help="YAML configuration, such as configs/quickstart.yaml.")],
    snakemake: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTION...]", help="More options, for Snakemake.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Run folder; runs/NAME without. Taken up where it is."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting: comparison.recipe.epochs=5."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Cores that jobs share here; jobs at a time elsewhere.")
    ] = 1,
    executor: Annotated[
        str, typer.Option(help="local, slurm, or another executor plugin of Snakemake.")
    ] = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run, and why; do nothing.")
    ] = False,
    graph: Annotated[
        Path | None, typer.Option(help="Draw the stages to a .svg, .png, .pdf or .dot; do nothing else.")
    ] = None,
) -> None:
    """Run every stage of a configuration that is not done yet, and keep what was done with what.

    Relative paths of the configuration count from the working directory. After a kill the same command goes
    on; after a change of configuration, data or code it repeats what depends on the change, and only that.
    A run that screens ends with the exit code of mofgap screen.
    """
    from mofgap.cli.screening_run import conclude
    from mofgap.configuration import load
    from mofgap.study.engine.cluster import Executor
    from mofgap.study.engine.config import RunConfig
    from mofgap.study.engine.folder import RunError
    from mofgap.study.engine.run import Workflow
    from mofgap.study.engine.screening import gathered

    try:
        loaded = load(RunConfig, config, settings or ())
        folder = (output or Path("runs") / loaded.name).resolve()
        workflow = Workflow(loaded, folder, shlex.join(["mofgap", *sys.argv[1:]]))
        if graph is not None:
            workflow.draw(graph)
        elif dry_run:
            for line in workflow.described():
                typer.echo(line)
        else:
            said = workflow.run(Executor(jobs, executor, tuple(snakemake or ())), _say)
            typer.echo(said)
            if loaded.screening is not None:
                found = gathered(loaded.screening, folder)
                conclude(found, f"{len(found.rows)} structures")
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on", INTERRUPTED)
    except (RunError, ValueError, OSError) as error:
        fail(str(error), NOTHING_DONE)


def _say(line: str) -> None:
    typer.echo(line, err=True)
