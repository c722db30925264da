"""The page of a screening as a file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mofgap.choices import N_CARDS, PAGES
from mofgap.counts import counted
from mofgap.report.screened import screened
from mofgap.report.screening_page import MAX_ROWS, drawn_rows, notes, screening_page
from mofgap.report.structures import drawings_of
from mofgap.screening.origin import folders_of, preparation_of
from mofgap.screening.reread import NO_FILE
from mofgap.screening.table import Window, rows_path, write_frame
from mofgap.whole_file import write_text

_NOT_HERE = "its file is not here or has changed. Run from the folder that was screened from"


def write_report(
    path: Path,
    frame: pd.DataFrame,
    *,
    source: str = "",
    command: str = "",
    window: Window = None,
    cards: int = N_CARDS,
    overwrite: bool = True,
) -> list[str]:
    """Write a screening as one page that needs no other file.

    The page of a very large table has its first rows, see `MAX_ROWS`. The whole table is then written next to
    it, as ``NAME.rows.csv``, unless it came from a CSV file itself.

    Args:
        path: The page; it appears whole or not at all.
        frame: The table; relative names of structures count from `folders_of` it.
        source: Name of its file; empty for none.
        command: What made the page, to be shown there.
        window: Shaded in the figures, eV; by default the table's own.
        cards: Candidates that get a card of their own.
        overwrite: Whether ``NAME.rows.csv`` may be there already; the page itself may.

    Returns:
        How many rows and structures the page has, then what a reader must know of it.

    Raises:
        ValueError: If ``path`` does not end in .html or .htm, or ``cards`` is below 0.
        ScreeningTableError: If ``frame`` lacks a column of a screening, or has no rows.
        OSError: If the file ``path`` cannot be written, or the file of all rows exists and must stay.
    """
    if path.suffix.lower() not in PAGES:
        raise ValueError(f"{path.name}: a page ends in .html")
    if cards < 0:
        raise ValueError(f"cards must be 0 or more, not {cards}")
    table = screened(frame, source or "table")
    shaded = window or table.window
    wanted = drawn_rows(table, cards)
    structures = drawings_of(wanted, folders_of(frame), preparation_of(frame))
    whole = ""
    if len(frame) > MAX_ROWS:
        rows = rows_path(path)
        whole = source if source.endswith(".csv") else rows.name
        if whole != source:
            if rows.exists() and not overwrite:
                raise FileExistsError(f"{rows} exists; --force overwrites it")
            write_frame(rows, frame)
    write_text(path, screening_page(table, source, shaded, structures, cards, command=command, whole=whole))
    n_rows = min(len(table.frame), MAX_ROWS)
    found = f"{counted(n_rows, 'row')}, {len(structures):,} of {counted(len(table.ranked), 'structure')}"
    said = notes(table, shaded, whole)
    if wanted and not structures:
        reasons = {NO_FILE.get(file, _NOT_HERE) for file, _ in wanted}
        said.append(f"No structure can be drawn: {reasons.pop() if len(reasons) == 1 else _NOT_HERE}.")
    return [found, *said]
