"""Whether the metals of a cell have more positive charge than its ligands and anions can balance.

Files that were cleaned of solvent often lack the anions in the pores too. Each ligand is given the most
negative charge that it can have, and each metal the lowest oxidation state of ordinary compounds. So what is
found missing is missing, but not all that is missing is found.
"""

from __future__ import annotations

import numpy as np

from mofgap.crystals.bonds import IS_METAL, BondGraph
from mofgap.crystals.charges import CHALCOGENS, HALOGENS, Lewis, open_valences, rings
from mofgap.crystals.elements import CARBON, HYDROGEN, NITROGEN, OXYGEN

# State 0 in a carbonyl needs no entry: each carbon on a metal may carry a charge. Nothing is said of a cell
# with another metal, such as Ge, Sn and Sb, which are anions in Zintl phases: [Ni2Sn17]4- in QMOF.
_STATES = {
    1: (3, 11, 19, 29, 37, 45, 47, 49, 55, 75, 77, 79, 80, 81),
    2: (4, 12, 20, 22, 23, 24, 25, 26, 27, 28, 30, 38, 41, 42, 44, 46, 48, 56, 62, 63, 70, 74, 78, 82, 88),
    3: (13, 21, 31, 39, 57, 58, 59, 60, 61, 64, 65, 66, 67, 68, 69, 71, 83, 89, 92, 95, 96),
    4: (40, 72, 90),
}
_LOWEST = {number: state for state, numbers in _STATES.items() for number in numbers}


def missing_anions(bonded: BondGraph) -> int:
    """By how much the metals' positive charge exceeds what else is in a cell can balance, in e."""
    numbers = bonded.numbers.tolist()
    is_metal, bonds = IS_METAL[bonded.numbers], bonded.bonds
    metals = bonded.numbers[is_metal].tolist()
    if not metals or any(number not in _LOWEST for number in metals):
        return 0
    lewis = open_valences(bonded)
    if lewis is None:
        return 0
    least = sum(_LOWEST[number] for number in metals)
    bound = set(bonds.first[is_metal[bonds.second]].tolist())
    most, bare = float(-lewis.charge), []
    for i, number in enumerate(numbers):
        neighbours = lewis.neighbours[i]
        if number == NITROGEN and len(neighbours) == 2 and lewis.open[i] and not _ends(i, lewis, numbers):
            bare.append(i)
        else:
            most += _most_negative(i, lewis, numbers, i in bound)
    if least > most:  # only then do rings decide
        most += sum(_of_ring_nitrogen(i, lewis.neighbours, numbers) for i in bare)
    return max(0, int(np.ceil(least - most - 1e-6)))


def _ends(i: int, lewis: Lewis, numbers: list[int]) -> list[int]:
    """Neighbours of an atom that are bonded to nothing else: chalcogens, and nitrogens on a nitrogen."""
    kinds = CHALCOGENS | {NITROGEN} if numbers[i] == NITROGEN else CHALCOGENS
    return [j for j in lewis.neighbours[i] if len(lewis.neighbours[j]) == 1 and numbers[j] in kinds]


def _most_negative(i: int, lewis: Lewis, numbers: list[int], is_bound: bool) -> float:
    """How many negative charges an atom may carry, or with a minus sign takes from its ends."""
    neighbours, number, left = lewis.neighbours[i], numbers[i], lewis.open[i]
    if number in HALOGENS and len(neighbours) > 1 and any(numbers[j] in HALOGENS for j in neighbours):
        return 1  # I3
    ends = _ends(i, lewis, numbers)
    if number == NITROGEN and ends:
        return 1 - len(ends)  # nitrate, nitrite, azide, oximate; a nitro group may stabilise a carbanion
    if len(ends) > 1 or (number != CARBON and len(neighbours) > 2):
        return -min(left, len(ends))  # a carboxylate, sulfonate, perchlorate, phosphine oxide
    if _is_neutral_end(i, lewis, numbers):
        return 0
    if number == CARBON:
        is_cyanide = [numbers[j] for j in neighbours] == [NITROGEN]  # which has the charge
        return min(left, 1) if is_bound and not is_cyanide else 0
    return min(left, 1) if number == NITROGEN else left


def _is_neutral_end(i: int, lewis: Lewis, numbers: list[int]) -> bool:
    """Whether an atom is the bare oxygen of an acid, or the nitrogen of a nitrile that carries no charge."""
    if len(lewis.neighbours[i]) != 1 or numbers[carbon := lewis.neighbours[i][0]] != CARBON:
        return False
    around = [j for j in lewis.neighbours[carbon] if j != i]
    if numbers[i] == OXYGEN and len(around) == 2:
        beyond = [k for j in around if numbers[j] == OXYGEN for k in lewis.neighbours[j]]
        return any(numbers[k] == HYDROGEN for k in beyond)
    if numbers[i] != NITROGEN or len(around) != 1:
        return False
    n_beyond = len(lewis.neighbours[around[0]])
    if numbers[around[0]] == CARBON:
        return n_beyond == 4  # unsaturated carbon, as in malononitrile, may have a charge
    return n_beyond > 1 or numbers[around[0]] in CHALCOGENS  # dicyanamide, thiocyanate: the others have it


def _of_ring_nitrogen(i: int, neighbours: list[list[int]], numbers: list[int]) -> float:
    """The most negative charge of a nitrogen with two neighbours: a share of an azolate, 0 in a pyridine."""
    found = [ring for size in (5, 6) for ring in rings((i,), neighbours, size)]
    aromatic = [ring for ring in found if all(len(neighbours[j]) < 4 for j in ring)]
    return min((_share(ring, neighbours, numbers) for ring in aromatic), default=1.0)


def _share(ring: tuple[int, ...], neighbours: list[list[int]], numbers: list[int]) -> float:
    """The share of each open nitrogen of an aromatic ring in the ring's negative charge."""
    kinds = [(numbers[j], len(neighbours[j])) for j in ring]
    if len(ring) == 6 or (NITROGEN, 3) in kinds or any(z in CHALCOGENS and n == 2 for z, n in kinds):
        return 0.0  # pyridine; imidazole with a substituent, oxazole, thiazole
    return 1 / kinds.count((NITROGEN, 2))
