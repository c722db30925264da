"""How the program ends: its exit codes, and errors without tracebacks."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

ALL_READ = 0
NOTHING_DONE = 1
WRONG_USAGE = 2
SOME_FAILED = 3
INTERRUPTED = 130

_CURES = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.ELOOP: "check the path",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another",
    errno.EACCES: "check its permissions, or name another",
    errno.EPERM: "check its permissions, or name another",
}


def say(words: str) -> None:
    """Print a message of the program on standard error."""
    typer.echo(f"mofgap: {words}", err=True)


def fail(wrong: str | Exception, code: int) -> NoReturn:
    """Print what is wrong on standard error, and exit.

    Raises:
        typer.Exit: Always. The program ends with the exit code ``code``.
    """
    say(wrong if isinstance(wrong, str) else words_of(wrong))
    raise typer.Exit(code)


@contextmanager
def told() -> Iterator[None]:
    """End the program with the message of an error of the input or the system, in place of a traceback.

    Raises:
        typer.Exit: If there is such an error.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        fail(error, NOTHING_DONE)


def drop_output() -> None:
    """Send what is left of standard output nowhere: Python flushes it once more on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def cannot_write(path: Path | str, error: Exception) -> str:
    """The message of an error while a file was written, which names it once."""
    if isinstance(error, OSError) and error.filename:
        return f"cannot write {words_of(error)}"
    return f"cannot write {path}: {getattr(error, 'strerror', None) or error}"


def words_of(error: Exception) -> str:
    """The message of an error; for those of the system the file, the reason and a cure."""
    if not (isinstance(error, OSError) and error.filename and error.strerror):
        return str(error)
    cure = _CURES.get(error.errno or 0)
    return f"{error.filename}: {error.strerror}" + (f"; {cure}" if cure else "")
