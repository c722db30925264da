"""Where a shipped model extrapolates: kinds of structures that have no gap of its level in its training set.

Novelty counts every structure that a model, or the one it started from, was trained on. Of those, only
structures of the CSD with at most 150 atoms have an HSE06 gap. So hypothetical frameworks, whose nearest
training structures are others of their kind, have none near. Nobody can measure the error of these kinds.
On split val of the QMOF table it does not grow up to that size, and that of ``qmof-pbe`` does not grow
beyond it. Hence this is a note, and no warning (``python -m benchmarks.accuracy --table qmof.parquet
--split val``, with ``--model qmof-hse06 --target hse06_gap_ev`` for HSE06).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mofgap.counts import counted
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import symbol_of

EXTRAPOLATION = "extrapolation"
"""Name of the note of a structure of a kind that has few gaps at the level of the model."""


@dataclass(frozen=True)
class KnownGaps:
    """The structures that a model has gaps of.

    Attributes:
        functional: Functional of the gaps.
        largest_cell: Number of atoms of the largest.
        few: Elements of the training set that fewer than `mofgap.uncertainty.novelty.RARE` of them have, with
            the number that do.
    """

    functional: str
    largest_cell: int
    few: Mapping[str, int]


KNOWN_GAPS = {
    "qmof-hse06": KnownGaps(
        "HSE06",
        150,
        {
            **{"Be": 2, "Sc": 5, "Ti": 6, "Ge": 4, "Zr": 4, "Nb": 2, "Tc": 0, "Rh": 8, "Ce": 3, "Eu": 9},
            **{"Re": 3, "Ir": 1, "Th": 4, "Np": 1, "Pu": 3},
        },
    )
}
"""By the name of a shipped model; the others have a gap of every structure that novelty counts."""


def extrapolation_notes(model: str, crystal: Crystal, *, nearest_is_known: bool = True) -> list[str]:
    """A note where a model knows few gaps of structures like this one, ``name: what``.

    Args:
        model: Name of the model.
        crystal: The structure.
        nearest_is_known: Whether the gap of one of its nearest training structures is known.
    """
    known = KNOWN_GAPS.get(model)
    if known is None:
        return []
    cells = f"cells of at most {known.largest_cell} atoms (this one has {crystal.n_atoms})"
    found = [cells] if crystal.n_atoms > known.largest_cell else []
    for symbol in map(symbol_of, np.unique(crystal.atomic_numbers)):
        if (n := known.few.get(symbol)) is not None:
            found.append(
                f"only {counted(n, 'structure')} with {symbol}" if n else f"no structure with {symbol}"
            )
    if not nearest_is_known:
        found.append("none of the most similar structures")
    what = f"training has {known.functional} gaps of {', and of '.join(found)}"
    return [f"{EXTRAPOLATION}: {what}"] if found else []
