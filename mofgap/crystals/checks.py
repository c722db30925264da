"""Sanity of a metal-organic framework: what a chemist would want to know before believing its gap."""

from __future__ import annotations

from collections.abc import Callable

import gemmi
import numpy as np
from numpy.typing import NDArray

from mofgap.counts import counted
from mofgap.crystals.anions import missing_anions
from mofgap.crystals.bonds import HYDROGEN_CONTACT_ANGSTROM, IS_METAL, BondGraph, bond_graph
from mofgap.crystals.charges import ions, uncompensated_charge
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import BORON, CARBON, FLUORINE, HYDROGEN, NITROGEN, OXYGEN, TITANIUM, symbol_of
from mofgap.crystals.prepare.config import PREPARATION_NOTES

# Distance over summed covalent radii below which atoms collide. The second is of two non-metals other than
# hydrogen, whose shortest bond in QMOF has 0.78.
COLLISION_RATIO, NONMETAL_COLLISION_RATIO = 0.6, 0.72
# Length of the sum of the unit vectors along an atom's bonds: 0 if they balance (linear, trigonal,
# tetrahedral), 1 if one is missing.
OPEN_VALENCE = 0.75
# Oxygen on one metal only: an oxo ligand is nearer than this, hydroxide and water are farther; angstrom.
LONGEST_OXO_ANGSTROM = 1.9
# Triple bonds of carbon to nitrogen or carbon are shorter than this, an amine is longer; angstrom.
LONGEST_TRIPLE_ANGSTROM = 1.25
# The bond of a hydrogen molecule is shorter; angstrom.
LONGEST_H2_ANGSTROM = 0.8
# Half the length of a long hydrogen bond between two oxygens, with room; angstrom.
LONGEST_HYDROGEN_BOND_ANGSTROM = 1.5
# Density below which few frameworks lie, and above which none do; g/cm3.
DENSITY_RANGE = (0.1, 7.0)

# V to Cu, Ru to Rh, Ce to Yb without their closed shells, U to Cm.
OPEN_SHELL = frozenset([*range(23, 30), 44, 45, *range(58, 71), *range(92, 97)])
# Li to Cs, Mg to Ba, Tl and Pb: a contact to carbon within the cutoff may be no bond.
IONIC = (3, 11, 19, 37, 55, 12, 20, 38, 56, 81, 82)
# The largest number of non-metal neighbours that each of these has in ordinary compounds.
MOST_NEIGHBOURS = {HYDROGEN: 1, CARBON: 4, NITROGEN: 4, OXYGEN: 3, FLUORINE: 1}

# Facts about the chemistry, or about how a file is written, rather than signs of a faulty file: on QMOF rows,
# errors are no larger with one of the former (``python -m benchmarks.warnings``).
NOTES = PREPARATION_NOTES | {
    *("open-shell-metal", "guest-molecules", "charged-framework", "isolated-atoms"),
    *("unquoted-value", "encoding", "deuterium"),
}


UNBALANCED = frozenset({"odd-electrons", "missing-charge", "missing-anions"})
"""Names of the warnings that charges do not add up. Bands are then partly filled, and the gap may be near
zero. A network does not see it, since it does not count electrons."""

FAULTS = UNBALANCED | {"overlapping-atoms", "odd-valence", "missing-hydrogens", "odd-density"}
"""Names of the warnings that the file is probably faulty, so that a calculation of it teaches little."""


def is_unbalanced(crystal: Crystal) -> bool:
    """Whether `check_crystal` gives one of the warnings `UNBALANCED`."""
    bonded = bond_graph(crystal)
    return any(check(bonded) for check in (_odd_electrons, _missing_charge, _missing_anions))


def _name(bonded: BondGraph, atom: int) -> str:
    """An atom as ``Zn 3``: element and place in the list, from 1."""
    return f"{symbol_of(bonded.numbers[atom])} {atom + 1}"


def _names(bonded: BondGraph, atoms: NDArray[np.int64]) -> str:
    """The first few atoms by name."""
    return ", ".join(_name(bonded, int(atom)) for atom in atoms[:4]) + (", ..." if len(atoms) > 4 else "")


def check_crystal(crystal: Crystal) -> tuple[str, ...]:
    """Warnings about a structure, as ``name: explanation``; none for a sound framework.

    The names are ``overlapping-atoms``, ``odd-valence``, ``missing-hydrogens``, ``isolated-atoms``,
    ``guest-molecules``, ``charged-framework``, ``no-metal``, ``no-carbon``, ``odd-electrons``,
    ``missing-charge``, ``missing-anions``, ``open-shell-metal`` and ``odd-density``; those in `NOTES` are
    facts about the chemistry rather than signs of a faulty file.
    """
    bonded = bond_graph(crystal)
    return tuple(text for check in _CHECKS if (text := check(bonded)))


def faults(crystal: Crystal) -> list[str]:
    """The names of its warnings that are `FAULTS`."""
    return [name for text in check_crystal(crystal) if (name := text.split(":", 1)[0]) in FAULTS]


def _overlapping_atoms(bonded: BondGraph) -> str:
    pairs, numbers = bonded.pairs, bonded.numbers
    nonmetal = ~IS_METAL[numbers] & (numbers != HYDROGEN)
    hydrogens = pairs.both((numbers == HYDROGEN) & (bonded.coordination() > 0))
    # Metals bind the molecule side-on.
    no_molecule = (pairs.distances > LONGEST_H2_ANGSTROM) | pairs.both(bonded.coordination(nonmetal) > 0)
    crowded = hydrogens & (pairs.distances < HYDROGEN_CONTACT_ANGSTROM) & no_molecule
    least = np.where(pairs.both(nonmetal), NONMETAL_COLLISION_RATIO, COLLISION_RATIO)
    bad = np.flatnonzero((bonded.ratios < least) | crowded)
    if not len(bad):
        return ""
    worst = bad[np.argmin(bonded.ratios[bad])]
    first, second = _name(bonded, int(pairs.first[worst])), _name(bonded, int(pairs.second[worst]))
    return (
        f"overlapping-atoms: {counted(len(bad) // 2, 'pair')} too close, {first} and {second} at "
        f"{pairs.distances[worst]:.2f} Å; disorder may be unresolved"
    )


def _odd_valence(bonded: BondGraph) -> str:
    numbers = bonded.numbers
    # Boron is left out: carboranes and borohydrides share electrons otherwise.
    count = bonded.coordination(~IS_METAL[numbers] & (numbers != BORON))
    most = np.full(119, 99)
    most[list(MOST_NEIGHBOURS)] = list(MOST_NEIGHBOURS.values())
    peroxidic = np.zeros(len(numbers), dtype=bool)
    peroxidic[bonded.bonds.first[bonded.bonds.both(numbers == OXYGEN)]] = True
    odd = np.flatnonzero((count > most[numbers]) | (peroxidic & (count == MOST_NEIGHBOURS[OXYGEN])))
    if not len(odd):
        return ""
    return f"odd-valence: too many neighbours around {_names(bonded, odd)}; disorder may be unresolved"


def _lacking_hydrogens(bonded: BondGraph) -> NDArray[np.int64]:
    """Atoms that seem to lack a hydrogen."""
    numbers, bonds = bonded.numbers, bonded.bonds
    count = bonded.coordination()
    terminal = count[bonds.first] == 1
    to_metal = IS_METAL[numbers[bonds.second]] & (bonds.distances > LONGEST_OXO_ANGSTROM)
    to_carbon = (numbers[bonds.second] == CARBON) & (bonds.distances > LONGEST_TRIPLE_ANGSTROM)
    bare = (numbers[bonds.first] == OXYGEN) & to_metal | (numbers[bonds.first] == NITROGEN) & to_carbon
    lacking = np.zeros(len(numbers), dtype=bool)
    lacking[bonds.first[terminal & bare]] = True
    lacking |= (count == 0) & np.isin(numbers, (CARBON, NITROGEN, OXYGEN))
    is_open = _is_open(bonded)
    lacking |= (numbers == CARBON) & (count > 0) & (count < 4) & is_open & ~_of_triple_bond(bonded)
    return np.flatnonzero(lacking)


def _is_open(bonded: BondGraph) -> NDArray[np.bool_]:
    """(n_atoms,) whether bonds do not balance, neither with contacts to cations such as Cs+ nor without."""
    first, ionic = bonded.bonds.first, np.isin(bonded.numbers[bonded.bonds.second], IONIC)
    without = bonded.open_direction.copy()
    np.add.at(without, first[ionic], bonded.directions[ionic])
    is_open, open_without = (
        np.linalg.norm(each, axis=1) > OPEN_VALENCE for each in (bonded.open_direction, without)
    )
    has_others = np.bincount(first[~ionic], minlength=len(is_open)) > 0
    found: NDArray[np.bool_] = is_open & (open_without | ~has_others)
    return found


def _of_triple_bond(bonded: BondGraph) -> NDArray[np.bool_]:
    """(n_atoms,) whether a carbon has a triple bond and another one, and so no place for a hydrogen."""
    bonds, numbers = bonded.bonds, bonded.numbers
    short = np.isin(numbers[bonds.second], (CARBON, NITROGEN)) & (bonds.distances < LONGEST_TRIPLE_ANGSTROM)
    found: NDArray[np.bool_] = (numbers == CARBON) & (bonded.coordination() > 1)
    return found & np.isin(np.arange(len(numbers)), bonds.first[short])


def _missing_hydrogens(bonded: BondGraph) -> str:
    atoms = _lacking_hydrogens(bonded)
    if not len(atoms):
        return ""
    return f"missing-hydrogens: probably at {counted(len(atoms), 'atom')} ({_names(bonded, atoms)}); add them"


def _between_two(bonded: BondGraph) -> NDArray[np.bool_]:
    """(n_atoms,) whether a hydrogen is halfway between atoms, too far from each for a bond."""
    hydrogen, pairs = bonded.numbers == HYDROGEN, bonded.pairs
    near = (
        hydrogen[pairs.first] & ~hydrogen[pairs.second] & (pairs.distances < LONGEST_HYDROGEN_BOND_ANGSTROM)
    )
    found = np.zeros(len(hydrogen), dtype=bool)
    found[pairs.first[near]] = True
    found &= bonded.coordination() == 0
    return found


def _isolated_atoms(bonded: BondGraph) -> str:
    # Heavy cations such as Tl+ keep their distance, and are plainly counter-ions.
    lonely = (bonded.coordination() == 0) & ~IS_METAL[bonded.numbers]
    alone = np.flatnonzero(lonely & ~_between_two(bonded))
    if not len(alone):
        return ""
    return (
        f"isolated-atoms: {_names(bonded, alone)} bonded to nothing; "
        "a counter-ion, or solvent without its hydrogens: --guests remove takes out the latter"
    )


def _guest_molecules(bonded: BondGraph) -> str:
    part, with_metal = bonded.parts
    if not with_metal.any() or with_metal.all():
        return ""
    guests = bonded.molecules[np.bincount(part)[bonded.molecules] > 1]
    if not len(guests):
        return ""
    text = bonded.formulas(guests)
    return f"guest-molecules: {text} not bonded to any metal; solvent, or ions that balance charge"


def _charged_framework(bonded: BondGraph) -> str:
    """A warning of ions in the pores: parts that are not neutral molecules, or metals bonded to nothing."""
    part, with_metal = bonded.parts
    frame = with_metal & (np.bincount(part) > 1)
    found = np.setdiff1d(ions(bonded), part[_between_two(bonded)])
    if not frame.any() or not len(found):
        return ""
    text = f"charged-framework: likely ions: {bonded.formulas(found)}"
    if np.isin(part[_lacking_hydrogens(bonded)], found).any():
        return f"{text}; add the missing hydrogens first: some may be neutral molecules"
    return f"{text}; they balance the framework's charge, so do not remove them"


def _no_metal(bonded: BondGraph) -> str:
    return "" if IS_METAL[bonded.numbers].any() else "no-metal: no metal atom, so no metal-organic framework"


def _no_carbon(bonded: BondGraph) -> str:
    return (
        "" if (bonded.numbers == CARBON).any() else "no-carbon: no carbon atom, so no metal-organic framework"
    )


def _odd_electrons(bonded: BondGraph) -> str:
    if int(bonded.numbers.sum()) % 2 == 0 or OPEN_SHELL & set(bonded.numbers.tolist()):
        return ""
    titanium = ", unless Ti is Ti(III)" if TITANIUM in bonded.numbers else ""
    return (
        "odd-electrons: an odd number of electrons without an open-shell metal; an atom or ion is missing"
        f"{titanium}, and the gap may be near zero"
    )


def _missing_charge(bonded: BondGraph) -> str:
    excess = uncompensated_charge(bonded)
    if not excess:
        return ""
    return (
        f"missing-charge: the metals cannot balance {counted(excess, 'negative charge')} of the ligands; "
        "hydrogens or cations may be missing, and the gap may be near zero"
    )


def _missing_anions(bonded: BondGraph) -> str:
    excess = missing_anions(bonded)
    if not excess:
        return ""
    return (
        f"missing-anions: nothing balances at least {counted(excess, 'positive charge')} of the metals; "
        "anions may be missing from the pores, and the gap may be near zero"
    )


def _open_shell_metal(bonded: BondGraph) -> str:
    found = sorted(OPEN_SHELL & set(bonded.numbers.tolist()))
    if not found:
        return ""
    names = ", ".join(map(symbol_of, found))
    return f"open-shell-metal: {names} may carry unpaired electrons; a PBE gap may then be far too small"


def _odd_density(bonded: BondGraph) -> str:
    grams = sum(gemmi.Element(number).weight for number in bonded.numbers.tolist()) / 0.602214
    density = grams / bonded.crystal.volume
    low, high = DENSITY_RANGE
    return (
        "" if low < density < high else f"odd-density: {density:.2f} g/cm³; check the cell and its contents"
    )


_CHECKS: tuple[Callable[[BondGraph], str], ...] = (
    _overlapping_atoms,
    _odd_valence,
    _missing_hydrogens,
    _isolated_atoms,
    _guest_molecules,
    _charged_framework,
    _no_metal,
    _no_carbon,
    _odd_electrons,
    _missing_charge,
    _missing_anions,
    _open_shell_metal,
    _odd_density,
)
