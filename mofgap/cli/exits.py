"""How the program ends: its exit codes, and errors without tracebacks."""

from __future__ import annotations

from typing import NoReturn

import typer

ALL_READ = 0
NOTHING_DONE = 1
WRONG_USAGE = 2
SOME_FAILED = 3
INTERRUPTED = 130


def fail(wrong: str | Exception, code: int) -> NoReturn:
    """Say what is wrong on standard error, and end.

    Raises:
        typer.Exit: The program always ends, with the exit code ``code``.
    """
    message = wrong if isinstance(wrong, str) else words_of(wrong)
    typer.echo(f"mofgap: {message}", err=True)
    raise typer.Exit(code)


def words_of(error: Exception) -> str:
    """What an error says; of the system's errors the file and the reason, without a number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
