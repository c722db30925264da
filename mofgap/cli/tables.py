"""Results on standard output: a table for people, tab-separated lines for programs, or JSON."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Annotated, Any

import typer

from mofgap.cli.exits import NOTHING_DONE, drop_output, fail
from mofgap.screening.row import printable, shortened
from mofgap.whole_file import finite

MAX_NAMES = 6
"""Words without a dash, one after the other, that a recorded command has; a shell makes many of ``*.cif``."""

SHORT = 16
"""Characters of a cell that is never broken, such as ``2.57 ± 0.86``."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def show(rows: Sequence[Mapping[Any, Any]], columns: Mapping[str, str], *, header: bool = True) -> None:
    """Print rows as a table on a terminal, or else as tab-separated lines.

    Args:
        rows: Values by the name of their column.
        columns: Names of the columns that a terminal shows, with their headings; a pipe gets all, in the
            order of the first row.
        header: Whether a pipe gets the names first.
    """
    if sys.stdout.isatty():
        _show_table(rows, columns)
        return
    names = list(rows[0]) if rows else list(columns)
    lines = ["\t".join(names)] if header else []
    print_lines([*lines, *("\t".join(_text(row.get(name)) for name in names) for row in rows)])


def _show_table(rows: Sequence[Mapping[Any, Any]], columns: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    cells = {name: [_short(_text(row.get(name), 4)) for row in rows] for name in columns}
    short = {name for name in columns if max(map(len, cells[name]), default=0) <= SHORT}
    has_words = any(" " in cell for name in columns if name not in short for cell in cells[name])
    for name, heading in columns.items():
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        is_name = not any(" " in cell for cell in cells[name])
        whole = name in short or (is_name and has_words)  # something must give way on a narrow terminal
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=whole, overflow="fold")
    for texts in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, texts))
    Console().print(table)


def _short(text: str) -> str:
    """A text for a narrow column: a long name is cut in the middle; words and paths may wrap."""
    return text if " " in text or "/" in text else shortened(text)


def command_line() -> str:
    """The command that runs, as it would be typed, with only the first few of a long list of names."""
    words = ["mofgap"]
    for is_option, run in groupby(sys.argv[1:], lambda word: word.startswith("-")):
        found = list(run)
        n_more = 0 if is_option else max(0, len(found) - MAX_NAMES)
        words += [shlex.quote(word) for word in found[: len(found) - n_more]]
        words += [f"[{n_more} more]"] if n_more else []
    return printable(" ".join(words))


def print_json(content: Any) -> None:
    """Print JSON; NaN and infinity become null."""
    print_lines([json.dumps(finite(content), ensure_ascii=False, indent=1, allow_nan=False)])


def print_lines(lines: Iterable[str]) -> None:
    """Print to standard output in UTF-8, until it is closed."""
    output = getattr(sys.stdout, "buffer", None)
    try:
        for line in lines:
            output.write(f"{line}\n".encode()) if output else sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        if not isinstance(error, BrokenPipeError):
            fail(f"cannot write to standard output: {error.strerror}", NOTHING_DONE)


def _text(value: Any, digits: int = 6) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
