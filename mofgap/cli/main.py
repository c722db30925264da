"""The commands of the product: one verb per file. `mofgap.__main__` adds those of the study.

A verb's module may import at its top only what is light: ``mofgap --help`` reads them all. To add a verb,
write its function and put it into `VERBS`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from mofgap.cli.calibrate import calibrate
from mofgap.cli.data import data
from mofgap.cli.examples import examples
from mofgap.cli.exits import NOTHING_DONE, drop_output, fail
from mofgap.cli.explain import explain
from mofgap.cli.gather import gather
from mofgap.cli.pretrain import pretrain
from mofgap.cli.report import report
from mofgap.cli.screen import screen
from mofgap.cli.select import select
from mofgap.cli.serve import serve
from mofgap.cli.train import train
from mofgap.cli.wrong_value import words_of_value
from mofgap.version import installed_version

VERBS: tuple[Callable[..., Any], ...] = (
    screen,
    gather,
    report,
    select,
    explain,
    calibrate,
    train,
    pretrain,
    examples,
)


class Program(TyperGroup):
    """The program, which says in its own words what no command foresaw: a value or a path that is refused."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            typer.Exit: If the command raises an OSError that names a path, or the disk is full.
            typer.BadParameter: If the value of an option is refused.
        """
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = words_of_value(error.message, error.__cause__)
            raise
        except OSError as error:
            _tell(error)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        """Read the command line; ``--help`` and ``--version`` print and end here.

        Raises:
            typer.Exit: If they cannot be printed.
            typer.BadParameter: If an argument of ``args`` is empty.
        """
        _refuse_empty(args)
        try:
            return super().make_context(info_name, args, *rest, **extra)
        except OSError as error:
            _tell(error)


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse an empty argument, which a path would take for the working folder.

    ``screen`` takes one among its inputs: an empty name does not cost the others.
    """
    for before, argument in pairwise(arguments):
        option = before if before.startswith("-") and before != "-" else None
        if not argument and (option or arguments[0] != "screen"):
            words = "an empty argument; check the variable that it is from"
            raise typer.BadParameter(words, param_hint=option)


def _tell(error: OSError) -> NoReturn:
    """End with one line on an error of a path, or of a full disk; raise any other again."""
    if error.filename is None and error.errno != errno.ENOSPC:
        raise error
    if error.filename is None:
        drop_output()
        fail(f"cannot write: {error.strerror}", NOTHING_DONE)
    fail(error, NOTHING_DONE)


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in VERBS:
    app.command(no_args_is_help=True)(verb)
app.command()(serve)  # needs no argument
app.add_typer(data, name="data")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mofgap {installed_version('(not installed)')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Predict band gaps of metal-organic frameworks from CIF files, with calibrated error bars."""
