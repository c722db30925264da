"""``mofgap report``: a table as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mofgap.cli.exits import NOTHING_DONE, fail


def report(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="What mofgap screen wrote: .csv, .parquet or .json.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    window: Annotated[
        Optional[tuple[float, float]],  # noqa: UP045 (older typers read no other spelling)
        typer.Option(metavar="LO HI", help="The gap window in eV that was screened for, to be shaded."),
    ] = None,
    cards: Annotated[
        int, typer.Option(min=0, metavar="N", help="Candidates shown with their structure in 3D.")
    ] = 12,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the page.")] = False,
) -> None:
    """Write a screening as one page: figures, ranked table, structures in 3D, failures.

    The page needs no network and no other file. Structures are read again from where the table says they
    are, seen from here or from the table's folder; those that are gone are left out.
    """
    if window is not None and not window[0] < window[1]:
        raise typer.BadParameter("needs its lower end below its upper end", param_hint="--window")
    if not output.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")
    if output.exists() and not force:
        raise typer.BadParameter(f"{output} exists; --force overwrites it", param_hint="--output")
    from mofgap.report.page import candidates, notes, screening_page
    from mofgap.report.screened import read_screened
    from mofgap.report.structures import drawings_of

    try:
        screened = read_screened(table)
        structures = drawings_of(candidates(screened, cards), (Path(), table.parent))
        output.write_text(screening_page(screened, table.name, window, structures, cards), encoding="utf-8")
    except (ValueError, OSError) as error:
        fail(str(error), NOTHING_DONE)
    for note in notes(screened, window):
        typer.echo(f"mofgap: {note}", err=True)
    n_rows, n_cards = len(screened.frame), min(cards, len(screened.ranked))
    typer.echo(f"mofgap: wrote {output}: {n_rows} rows, {len(structures)} of {n_cards} structures", err=True)
