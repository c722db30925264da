"""Tell what was left out, without burying the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import typer

MAX_SHOWN = 20
"""Lines told in full, before the others are only counted by their reasons."""


def tell_skipped(lines: Sequence[str]) -> None:
    """Write to standard error what was left out.

    Args:
        lines: ``NAME: REASON`` each.
    """
    for line in lines[:MAX_SHOWN]:
        typer.echo(f"skipped {line}", err=True)
    reasons = Counter(line.partition(": ")[2] for line in lines[MAX_SHOWN:])
    for reason, count in reasons.most_common():
        typer.echo(f"skipped {count} more: {reason}", err=True)
