"""Warnings about how far a structure lies from the training structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mofgap.crystals import checks
from mofgap.crystals.coordination import metal_coordination
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import symbol_of
from mofgap.datasets.groups import refcode_families
from mofgap.gap.extrapolation import EXTRAPOLATION
from mofgap.uncertainty.novelty import NoveltyIndex

NOVEL = 0.99
"""A structure more remote than this share of the training set gets the warning ``novel``."""

N_NEAREST = 3

IN_TRAINING = "in-training"
"""Name of the note of a structure whose gap the model was trained on."""

EXPERIMENTAL = "experimental-geometry"
"""Name of the note of a structure with an experimental geometry."""

SAME_REFCODE = "same-refcode"
"""Name of the note of a structure whose compound the model was trained on, by its CSD refcode."""

NOT_CALIBRATED = "is not calibrated: its error bars are the network's own, without a guarantee"
"""What to say of a model with a raw calibration, behind its name."""

UNCALIBRATED = "not-calibrated"
"""Name of the note of a structure whose error bars are not calibrated."""

NOTES = checks.NOTES | {IN_TRAINING, SAME_REFCODE, EXPERIMENTAL, EXTRAPOLATION, UNCALIBRATED, "duplicate"}
"""Names of warnings that state a fact, not a reason to check the structure."""

KNOWN = frozenset({IN_TRAINING, SAME_REFCODE})
"""Names of notes that a gap may be known already. Tables name them, and count other notes."""


def is_note(text: str) -> bool:
    """Whether a warning, ``name: what``, is one of `NOTES`."""
    return text.split(":", 1)[0] in NOTES


def novelty_warnings(
    index: NoveltyIndex,
    crystal: Crystal,
    novelty: float,
    nearest: Sequence[str],
    in_training: bool,
    rare_elements: Mapping[int, int],
    substitutes: Mapping[str, Mapping[str, float]] | None = None,
    *,
    gap_is_unknown: bool = False,
) -> list[str]:
    """Warnings of a structure, ``name: what`` each.

    It may be a training structure, or share the six letters of a CSD refcode with a near one. It is novel if
    its novelty exceeds `NOVEL`, or if it has an element that no training structure has. The same holds for a
    metal with an unseen coordination number, and for a gap that is unknown.

    Args:
        index: Index of the training structures.
        crystal: The structure.
        novelty: 0..1, the share of training structures less remote from the rest than this one.
        nearest: Ids of the nearest training structures; warnings give their names and known gaps.
        in_training: Whether the model was trained on the gap of the structure.
        rare_elements: Its elements that few training structures have, with their number.
        substitutes: What elements without training data are treated as, with their shares.
        gap_is_unknown: Whether the standard deviation is the largest possible.
    """
    known = [index.known_as(name) for name in nearest[:N_NEAREST]]
    coordination = index.unseen_coordination(metal_coordination(crystal))
    missing = [symbol_of(z) for z, count in rare_elements.items() if count == 0]
    unseen = [name + _read_as((substitutes or {}).get(name)) for name in missing]
    unseen += [f"{symbol_of(z)} with {n} neighbours" for z, n in coordination]
    warnings = []
    if in_training:
        warnings.append(f"{IN_TRAINING}: the model was trained on the gap of this structure, {known[0]}")
    own = refcode_families(crystal.structure_id)
    relatives = [name for name in nearest if own & refcode_families(index.name_of(name))]
    if relatives and not in_training:
        trained = index.known_as(relatives[0])
        warnings.append(f"{SAME_REFCODE}: likely the same compound as {trained}, a training structure")
    if novelty > NOVEL or coordination or gap_is_unknown:
        why = "far from every training structure"
        if unseen:
            why = f"no training structure has {' or '.join(unseen)}"
        elif novelty <= NOVEL:
            why += ", or the model's error bars are wide: this one is the largest there is"
        warnings.append(f"novel: {why}; nearest are {', '.join(known)}; check the gap by DFT")
    rare = [f"{symbol_of(z)} ({count})" for z, count in rare_elements.items() if count]
    if rare:
        warnings.append(f"rare-elements: few training structures have {', '.join(rare)}")
    return warnings


def _read_as(shares: Mapping[str, float] | None) -> str:
    """In brackets, what an element is treated as: elements of at least half the largest share."""
    if not shares:
        return ""
    most = max(shares.values())
    return f" (treated as {' and '.join(name for name, share in shares.items() if 2 * share >= most)})"
