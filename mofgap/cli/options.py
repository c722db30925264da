"""Options that several commands have in common."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mofgap.choices import Disorder
from mofgap.cli.exits import NOTHING_DONE, fail, say
from mofgap.cli.schema import option_of
from mofgap.configuration import ConfigurationError
from mofgap.crystals.prepare.config import Geometry, Guests
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.rank import check_window
from mofgap.shipped import CONFIG, argument_of, model_folder, not_found
from mofgap.whole_file import why_missing

OPTIMISATION, DEVICES = "Optimisation", "Devices"
"""Headings of options in the help of trainings."""

MaxAtoms = Annotated[int, option_of(ScreeningConfig, "max_atoms")]
GeometryOption = Annotated[Geometry, option_of(ScreeningConfig, "geometry")]
GuestsOption = Annotated[Guests, option_of(ScreeningConfig, "guests")]
AddHydrogens = Annotated[bool, option_of(ScreeningConfig, "add_hydrogens")]
HydrogenLengths = Annotated[bool, option_of(ScreeningConfig, "hydrogen_lengths")]
BondLengths = Annotated[bool, option_of(ScreeningConfig, "bond_lengths")]
PartialOccupancies = Annotated[Disorder, option_of(ScreeningConfig, "disorder")]
Cache = Annotated[Path | None, typer.Option(help="Folder that keeps graphs for the next training.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]


@contextmanager
def refused(option: str | None = None, names: Mapping[str, str] = {}) -> Iterator[None]:
    """Turn a ValueError of the body into wrong usage, of the option ``option`` if that is named.

    Args:
        option: The option that was used wrongly.
        names: What the command line calls settings whose options have other names.

    Raises:
        typer.BadParameter: If the body raises a ValueError. A `ConfigurationError` names its own option
            unless ``option`` is given.
    """
    try:
        yield
    except ConfigurationError as error:
        problem = error.problems[0]
        key = problem.key.rpartition(".")[2].partition("[")[0]
        usual = f"--{key.replace('_', '-')}" if key else None
        raise typer.BadParameter(problem.words, param_hint=option or names.get(key, usual)) from error
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def needs_file(path: Path) -> None:
    """End the program where a file is missing, before anything slow is imported.

    Raises:
        typer.Exit: If there is nothing at ``path``.
    """
    if why := why_missing(path):
        fail(f"{path}: {why}", NOTHING_DONE)


def tell_model(folder: Path) -> None:
    """Write to standard error that a model folder was made, and the command that uses it."""
    say(f"wrote {folder}; next: mofgap screen STRUCTURES --model {shlex.quote(argument_of(folder))}")


def needs_model(name: str | Path) -> None:
    """End the program where a model is missing, before anything slow is imported.

    Raises:
        typer.Exit: If ``name`` is neither a shipped model nor a model folder.
    """
    if model_folder(name, CONFIG) is None:
        fail(not_found(name, CONFIG), NOTHING_DONE)


def checked_window(window: tuple[float, float] | None) -> tuple[float, float] | None:
    """The window of an option, for its callback.

    Raises:
        typer.BadParameter: If the ends of ``window`` are in the wrong order, are not numbers, or are the same
            infinity.
    """
    if window is not None:
        with refused():
            check_window(*window)
    return window


def refuse_input(output: Path, inputs: Iterable[str | Path]) -> None:
    """Refuse an output that is one of the inputs, also with ``--force``.

    Raises:
        typer.BadParameter: If ``output`` is a file of ``inputs``.
    """
    if not output.is_file():
        return
    named = (path for name in inputs for path in (str(name), str(name).removeprefix("@")))
    if any(os.path.isfile(path) and output.samefile(path) for path in named):  # noqa: PTH113 (never raises)
        raise typer.BadParameter(
            f"{output} is an input, and stays with --force too; name another output", param_hint="--output"
        )


def refuse_taken(
    paths: Iterable[Path], force: bool, words: str = "overwrites it", *, param_hint: str = "--output"
) -> None:
    """Refuse to write where a file is in the way, unless ``--force`` is given.

    Raises:
        typer.BadParameter: If a file of ``paths`` exists and ``force`` is False. The message ends in
            ``words``, the effect of ``--force``.
    """
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not force:
        raise typer.BadParameter(f"{taken} exists; --force {words}", param_hint=param_hint)
