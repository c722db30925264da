"""``mofgap run``: a whole run from one configuration, here or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mofgap.cli.exits import INTERRUPTED, fail, told
from mofgap.cli.tables import command_line

if TYPE_CHECKING:
    from mofgap.study.engine.cluster import Executor
    from mofgap.study.engine.run import Run

Configuration = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="YAML configuration, or the name of a shipped one, such as quickstart."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o", "--output", help="Run folder, by default runs/NAME. A run that is there is continued."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as comparison.recipe.epochs=5."),
]
Jobs = Annotated[
    int,
    typer.Option(
        "-j", "--jobs", min=1, help="Cores for the stages on this machine; on a cluster, jobs at a time."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would run, and why; do nothing.")]


def run(
    config: Configuration,
    snakemake: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION...]", help="More options, for Snakemake, such as --dag."),
    ] = None,
    output: Output = None,
    settings: Settings = None,
    jobs: Jobs = 1,
    executor: Annotated[
        str, typer.Option(help="local, slurm, or another executor plugin of Snakemake.")
    ] = "local",
    dry_run: DryRun = False,
) -> None:
    """Run the stages of a configuration that are not done yet, and record how each was made.

    Relative paths in the configuration count from the working directory. The same command continues a run
    that was stopped. If configuration, data or code changed, only what depends on the change is run again.
    The old results go to the folder ``stale`` of the run. With a screening, the exit code is that of
    mofgap screen.
    """
    from mofgap.cli.screening_run import conclude
    from mofgap.study.engine.cluster import Executor
    from mofgap.study.engine.screening import outcome_of
    from mofgap.study.engine.training import made_by

    with ending():
        opened = open_run(config, output, settings)
        if dry_run:
            show(opened)
            return
        typer.echo(carry_out(opened, Executor(jobs, executor, tuple(snakemake or ()))))
        if opened.config.screening is not None and opened.is_finished:
            asked, made = opened.config.screening, made_by(opened.config)
            conclude(
                outcome_of(opened.path),
                asked.novelty,
                asked.duplicates,
                opened.path / asked.table,
                has_window=asked.window is not None,
                has_page=opened.config.report,
                model=str(opened.path / made[1]) if made else asked.model,
            )


def open_run(config: Path, output: Path | None, settings: list[str] | None, *, screening: bool = True) -> Run:
    """The run of a configuration.

    Raises:
        ConfigurationError: If the file ``config`` or an override in ``settings`` cannot be used.
    """
    from mofgap.configuration import load
    from mofgap.study.engine.config import RunConfig
    from mofgap.study.engine.run import Run

    loaded = load(RunConfig, find_configuration(config), settings or ())
    folder = (output or Path("runs") / loaded.name).resolve()
    return Run(loaded, folder, command_line(), screening)


def find_configuration(name: Path) -> Path:
    """The file of that path, or the shipped configuration of that name.

    Raises:
        ConfigurationError: If there is no such file and no shipped configuration with that name. The message
            lists the shipped ones.
    """
    from mofgap.configuration import ConfigurationError
    from mofgap.nearest import hint
    from mofgap.shipped import shipped_folder

    if name.is_file() or name.suffix or len(name.parts) != 1:
        return name
    shipped = {path.stem: path for path in shipped_folder("configs").glob("*.yaml")}
    if str(name) not in shipped:
        raise ConfigurationError(
            f"no file, and no shipped configuration {name}; {hint(name, sorted(shipped))}"
        )
    return shipped[str(name)]


def show(run: Run) -> None:
    """Print what would run, and why."""
    for line in run.described():
        typer.echo(line)


def carry_out(run: Run, executor: Executor) -> str:
    """Run what is not done, with one line per stage on standard error; returns what came out."""
    return run.run(executor, lambda line: typer.echo(line, err=True))


@contextmanager
def ending() -> Iterator[None]:
    """End the program with a message where a run cannot start or go on."""
    try:
        with told():
            yield
    except KeyboardInterrupt:
        fail("interrupted; the same command continues", INTERRUPTED)
