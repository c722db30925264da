"""Error bars of structures with elements that no training structure has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from mofgap.crystals.elements import atomic_number, symbol_of
from mofgap.encoders.elements import distances
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.novelty import Novelty

WIDENING = 0.5
"""Of a standard deviation, for each unit of distance between an unseen element and what it is read as. It was
chosen by the intervals of seven withheld metals, and of 46 that a model reads as others (``python -m
benchmarks.withheld_metals``, with and without ``--leave-out qmof-pbe``)."""

USUAL_DISTANCE = 1.5
"""Of an element that is read as no other."""


def widening(far: Novelty, substitutes: Mapping[str, Collection[str]]) -> Floats:
    """Factors of the total standard deviations of n structures, (n,): 1 without unseen elements.

    Of several unseen elements, the one that is least similar counts.

    Args:
        far: Novelty of the structures.
        substitutes: Symbols of unseen elements, and of those that they are read as.
    """
    unseen = ([symbol_of(z) for z, count in counts.items() if not count] for counts in far.rare_elements)
    return np.array([max((factor(z, substitutes.get(z, ())) for z in each), default=1.0) for each in unseen])


def factor(unseen: str, others: Collection[str]) -> float:
    """Factor of the standard deviation for an unseen element.

    The distance to the most similar element is an independent error: both add in squares.

    Args:
        unseen: Its symbol.
        others: Those that it is read as.
    """
    found = distances(atomic_number(unseen), map(atomic_number, others))
    return float(np.hypot(1.0, WIDENING * min(found.values(), default=USUAL_DISTANCE)))
