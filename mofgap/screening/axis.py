"""The axis on which tables and figures draw intervals."""

from __future__ import annotations

from collections.abc import Iterable


def axis_end(gaps_ev: Iterable[float | None], highs_ev: Iterable[float | None]) -> float:
    """Where the axis of intervals ends, eV; at least 1.

    It holds all intervals, unless one reaches beyond twice the largest gap: a structure unlike all others
    may have an error bar of 100 eV, next to which no other could be read. ``table.js`` and ``serve.js`` use
    the same rule.

    Args:
        gaps_ev: Predicted gaps, eV.
        highs_ev: Upper ends of their intervals, eV.
    """
    largest = max((gap or 0.0 for gap in gaps_ev), default=0.0)
    highest = max((high or 0.0 for high in highs_ev), default=0.0)
    return max(1.0, min(highest, 2 * largest))
