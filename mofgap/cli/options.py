"""Options that several commands have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from mofgap.screening.rank import check_window

# Choices whose home is heavy to import; --help must not be.
Device = Literal["auto", "cpu", "cuda"]
Disorder = Literal["refuse", "majority"]
Method = Literal["balora", "lora", "full"]
Uncertainty = Literal["auto", "distance", "closed-form", "weights", "rows"]

Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training structures.")]
MaxAtoms = Annotated[int, typer.Option(min=1, help="Largest cell that is accepted.")]
PartialOccupancies = Annotated[
    Disorder, typer.Option(help="Partial occupancies: refuse the file, or keep the majority occupants.")
]
BatchAtoms = Annotated[int, typer.Option(min=1, help="Atoms of a batch.")]
Cache = Annotated[Path | None, typer.Option(help="Folder to keep graphs in.")]
TrainingDevice = Annotated[Device, typer.Option(help="Where to train.")]
Devices = Annotated[int, typer.Option(min=1, help="How many devices, a process each.")]
Precision = Annotated[
    Literal["32-true", "bf16-mixed"], typer.Option(help="bf16-mixed is faster where it is supported.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


@contextmanager
def refused(option: str | None = None) -> Iterator[None]:
    """Whatever makes no sense in the body is wrong usage, of an option where one is named.

    Raises:
        typer.BadParameter: The body raised a ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def checked_window(window: tuple[float, float] | None) -> tuple[float, float] | None:
    """The window of an option, for its callback.

    Raises:
        typer.BadParameter: It is none.
    """
    if window is not None:
        with refused():
            check_window(*window)
    return window


def refuse_taken(
    paths: Iterable[Path], force: bool, words: str = "overwrites it", *, param_hint: str = "--output"
) -> None:
    """Do nothing where no file is in the way, or ``--force`` is given.

    Raises:
        typer.BadParameter: A file is there; the message ends in what ``--force`` does.
    """
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not force:
        raise typer.BadParameter(f"{taken} exists; --force {words}", param_hint=param_hint)
