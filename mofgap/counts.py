"""Numbers of things in messages."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """A number with its noun, such as ``1 structure`` or ``1,234 structures``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
