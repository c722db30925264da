"""How the program ends: its exit codes, and errors without tracebacks."""

from __future__ import annotations

from typing import NoReturn

import typer

ALL_READ = 0
NOTHING_DONE = 1
WRONG_USAGE = 2
SOME_FAILED = 3
INTERRUPTED = 130

_CURES = {FileNotFoundError: "check the path", PermissionError: "check its permissions, or name another"}


def fail(wrong: str | Exception, code: int) -> NoReturn:
    """Print what is wrong on standard error, and exit.

    Raises:
        typer.Exit: Always. The program ends with the exit code ``code``.
    """
    message = wrong if isinstance(wrong, str) else words_of(wrong)
    typer.echo(f"mofgap: {message}", err=True)
    raise typer.Exit(code)


def words_of(error: Exception) -> str:
    """The message of an error; for those of the system the file, the reason and a cure."""
    if not (isinstance(error, OSError) and error.filename and error.strerror):
        return str(error)
    cure = next((f"; {words}" for kind, words in _CURES.items() if isinstance(error, kind)), "")
    return f"{error.filename}: {error.strerror}{cure}"
