"""Show what was left out, in few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mofgap.training.labels import Labels

MAX_SHOWN = 20
"""Number of lines that are shown in full; the others are counted by their reasons."""


def tell_left_out(labels: Labels, faulty: str = "used") -> None:
    """Write to standard error which labelled structures were left out, and which were used with a note.

    Those whose file is probably faulty are said to be ``faulty``.
    """
    tell_skipped(labels.skipped)
    tell_skipped(labels.notes, "used")
    tell_skipped(labels.faulty, faulty)


def tell_skipped(lines: Sequence[str], what: str = "skipped") -> None:
    """Write to standard error ``what`` was done with structures, by lines of ``NAME: REASON``."""
    for line in lines[:MAX_SHOWN]:
        typer.echo(f"{what} {line}", err=True)
    reasons = Counter(line.partition(": ")[2] for line in lines[MAX_SHOWN:])
    for reason, count in reasons.most_common():
        typer.echo(f"{what} {count} more: {reason}", err=True)
