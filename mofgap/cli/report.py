"""``mofgap report``: a screening as a page to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mofgap.choices import N_CARDS, PAGES
from mofgap.cli.exits import NOTHING_DONE, cannot_write, fail, say
from mofgap.cli.options import checked_window, refuse_input, refuse_taken
from mofgap.cli.tables import command_line
from mofgap.whole_file import write_text

PageAndWords = tuple[str, list[str]]
"""A page, and what to say of it."""

PAGE_OF_FOLDER: list[Callable[[Path], PageAndWords]] = []
"""Makes the page of a folder; `mofgap.study.cli` puts that of a run here."""


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_TABLE",
            help="Folder that mofgap compare wrote, or table that mofgap screen wrote, but no .html.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LO HI",
            callback=checked_window,
            help="For a table: gap window in eV to shade; by default that of the table.",
        ),
    ] = None,
    cards: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="For a table: number of candidates shown as cards.",
        ),
    ] = N_CARDS,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the page.")] = False,
) -> None:
    """Write a screening or a comparison as one page that needs no network and no other file.

    A screening gives figures, the ranked table, structures in 3D and failures. Structures are read again from
    the paths in the table, which count from here or from the table's folder. Missing files are left out. A
    comparison gives verdicts, tables and figures.
    """
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}; make it first", param_hint="--output")
    if output.is_dir():
        raise typer.BadParameter(f"{output} exists and is a folder; name a file", param_hint="--output")
    refuse_input(output, [source])
    if source.exists() and output.suffix.lower() not in PAGES:
        raise typer.BadParameter(f"{output.name}: a page ends in .html", param_hint="--output")
    if source.exists():  # else that is what is wrong
        refuse_taken([output], force)
    try:
        if source.is_dir() and source.suffix != ".parquet" and PAGE_OF_FOLDER:  # that is a table in parts
            page, said = PAGE_OF_FOLDER[0](source)
            write_text(output, page)
        else:
            said = _screening(source, output, window, cards, force=force)
    except OSError as error:
        fail(error if error.filename else cannot_write(output, error), NOTHING_DONE)
    except ValueError as error:
        fail(error, NOTHING_DONE)
    for note in said[1:]:
        say(note)
    say(f"wrote {output}: {said[0]}; open it in a browser")


def _screening(
    table: Path, output: Path, window: tuple[float, float] | None, cards: int, *, force: bool
) -> list[str]:
    """Write the page of a table; returns what to say of it."""
    from mofgap.report.file import write_report
    from mofgap.screening.table import read_table

    return write_report(
        output,
        read_table(table),
        source=table.name,
        command=command_line(),
        window=window,
        cards=cards,
        overwrite=force,
    )
