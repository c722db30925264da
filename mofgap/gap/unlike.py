"""What a chemist should know about a structure's distance from all that a model learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gemmi

from mofgap.crystals.coordination import metal_coordination
from mofgap.crystals.crystal import Crystal
from mofgap.uncertainty.novelty import NoveltyIndex

NOVEL = 0.99
"""A structure more remote than this share of the training set gets the warning ``novel``."""

N_NEAREST = 3


def novelty_warnings(
    index: NoveltyIndex, crystal: Crystal, novelty: float, nearest: Sequence[str], seldom: Mapping[int, int]
) -> list[str]:
    """Warnings of a structure, ``name: what`` each.

    It is novel past the threshold `NOVEL`, with an element that training never saw, or with a metal of a
    coordination number that training never saw.

    Args:
        index: Of the training structures.
        crystal: The structure.
        novelty: 0..1, the share of training structures less remote from the rest than this one.
        nearest: Ids of the nearest training structures.
        seldom: Its elements that training hardly saw, with the number of structures that have them.
    """
    strange = index.unseen_coordination(metal_coordination(crystal))
    unseen = [_symbol(z) for z, count in seldom.items() if count == 0]
    unseen += [f"{_symbol(z)} with {n} neighbours" for z, n in strange]
    warnings = []
    if novelty > NOVEL or strange:
        why = f"training saw no {', '.join(unseen)}" if unseen else "far from every training structure"
        warnings.append(f"novel: {why}; nearest are {', '.join(nearest[:N_NEAREST])}; check the gap by DFT")
    known = [f"{_symbol(z)} in {count}" for z, count in seldom.items() if count]
    if known:
        warnings.append(f"seldom-elements: {', '.join(known)} training structures")
    return warnings


def _symbol(atomic_number: int) -> str:
    return str(gemmi.Element(atomic_number).name)
