"""``mofgap report``: a screening as a page to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.exits import NOTHING_DONE, fail
from mofgap.cli.options import checked_window, refuse_taken

PageAndWords = tuple[str, list[str]]
"""A page, and what to say of it."""

PAGE_OF_FOLDER: list[Callable[[Path], PageAndWords]] = []
"""Makes the page of a folder; `mofgap.study.cli` puts that of a run here."""


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_TABLE",
            help="Folder that mofgap compare wrote, or table of mofgap screen: .csv, .parquet or .json.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LO HI",
            callback=checked_window,
            help="Of a table: gap window in eV to be shaded, instead of the table's own.",
        ),
    ] = None,
    cards: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Of a table: candidates shown with their structure in 3D."),
    ] = 12,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the page.")] = False,
) -> None:
    """Write a screening or a comparison as one page that needs no network and no other file.

    Of a screening: figures, ranked table, structures in 3D, failures. Structures are read again from where
    the table says they are, seen from here or from the table's folder; those that are gone are left out. Of a
    comparison: verdicts, tables and figures.
    """
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")
    refuse_taken([output], force and not output.is_dir(), "overwrites a file")
    from mofgap.report.page import write_page

    try:
        if source.is_dir() and PAGE_OF_FOLDER:
            page, said = PAGE_OF_FOLDER[0](source)
        else:
            page, said = _screening(source, window, cards)
        write_page(output, page)
    except (ValueError, OSError) as error:
        fail(str(error), NOTHING_DONE)
    for note in said[1:]:
        typer.echo(f"mofgap: {note}", err=True)
    typer.echo(f"mofgap: wrote {output}: {said[0]}", err=True)


def _screening(table: Path, window: tuple[float, float] | None, cards: int) -> PageAndWords:
    """The page of a table, and what to say of it."""
    from mofgap.report.screened import read_screened
    from mofgap.report.screening_page import candidates, notes, screening_page
    from mofgap.report.structures import drawings_of

    screened = read_screened(table)
    shaded = window or screened.window
    structures = drawings_of(candidates(screened, cards), (Path(), table.parent))
    page = screening_page(screened, table.name, shaded, structures, cards)
    n_rows, n_cards = len(screened.frame), min(cards, len(screened.ranked))
    return page, [f"{n_rows} rows, {len(structures)} of {n_cards} structures", *notes(screened, shaded)]
