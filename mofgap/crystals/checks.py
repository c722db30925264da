"""Sanity of a metal-organic framework: what a chemist would want to know before believing its gap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import gemmi
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mofgap.crystals.bonds import (
    BOND_RATIO,
    COVALENT_RADII,
    HYDROGEN_CONTACT_ANGSTROM,
    IS_METAL,
    Pairs,
    bond_ratios,
    pairs_within,
)
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import formula_sum

# Distance over summed covalent radii below which atoms collide.
COLLISION_RATIO = 0.6
# Length of the sum of the unit vectors along an atom's bonds: 0 if they balance (linear, trigonal,
# tetrahedral), 1 if one is missing.
OPEN_VALENCE = 0.75
# Oxygen on one metal only: an oxo ligand is nearer than this, hydroxide and water are farther; angstrom.
LONGEST_OXO_ANGSTROM = 1.9
# Nitrogen on one carbon only: a nitrile or cyanide is shorter than this, an amine longer; angstrom.
LONGEST_NITRILE_ANGSTROM = 1.25
# Density below which few frameworks lie, and above which none do; g/cm3.
DENSITY_RANGE = (0.1, 7.0)

HYDROGEN, BORON, CARBON, NITROGEN, OXYGEN, FLUORINE = 1, 5, 6, 7, 8, 9
# V to Cu, Ru to Rh, Ce to Yb without their closed shells, U to Cm.
OPEN_SHELL = frozenset([*range(23, 30), 44, 45, *range(58, 71), *range(92, 97)])
# The largest number of non-metal neighbours that each of these has in ordinary compounds.
MOST_NEIGHBOURS = {HYDROGEN: 1, CARBON: 4, NITROGEN: 4, OXYGEN: 3, FLUORINE: 1}

# Facts about the chemistry, or about how a file is written, rather than signs of a faulty file.
NOTES = frozenset({"open-shell-metal", "guest-molecules", "charged-framework", "unquoted-value", "encoding"})
# Ions with an even number of electrons, by formula; those with an odd one are known by it.
EVEN_IONS = frozenset({"CO3", "O4S", "O4Se", "F6Si", "F6Ge"})


@dataclass(frozen=True, eq=False)
class _Bonded:
    """A crystal with its bonds, each listed from both ends."""

    crystal: Crystal
    pairs: Pairs
    ratios: NDArray[np.float64]
    bonds: Pairs

    @property
    def numbers(self) -> NDArray[np.int64]:
        return self.crystal.atomic_numbers

    def coordination(self, neighbours: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """(n_atoms,) number of bonds of each atom, to the atoms of a mask if one is given."""
        first = self.bonds.first if neighbours is None else self.bonds.first[neighbours[self.bonds.second]]
        return np.bincount(first, minlength=self.crystal.n_atoms)

    def imbalance(self) -> NDArray[np.float64]:
        """(n_atoms,) length of the sum of the unit vectors along each atom's bonds."""
        bonds, cell = self.bonds, self.crystal.cell
        frac = self.crystal.frac_coords % 1.0
        vectors = (frac[bonds.second] + bonds.offsets - frac[bonds.first]) @ cell / bonds.distances[:, None]
        total = np.zeros((self.crystal.n_atoms, 3))
        np.add.at(total, bonds.first, vectors)
        length: NDArray[np.float64] = np.linalg.norm(total, axis=1)
        return length

    @cached_property
    def parts(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(n_atoms,) the connected part that each atom belongs to, and (n_parts,) whether it has a metal."""
        first, second, n = self.bonds.first, self.bonds.second, self.crystal.n_atoms
        n_parts, part = connected_components(coo_array((np.ones(len(first)), (first, second)), (n, n)), False)
        with_metal = np.zeros(n_parts, dtype=bool)
        with_metal[part[IS_METAL[self.numbers]]] = True
        return part, with_metal

    def formulas(self, part: NDArray[np.int64], some: NDArray[np.int64]) -> str:
        """Formulas of some parts with how many there are of each, the first few."""
        kinds = Counter(formula_sum(self.numbers[part == i]).replace(" ", "") for i in some)
        return ", ".join(f"{count} {formula}" for formula, count in sorted(kinds.items())[:4])

    def name(self, atom: int) -> str:
        """An atom as ``Zn 3``: element and place in the list, from 1."""
        return f"{gemmi.Element(int(self.numbers[atom])).name} {atom + 1}"

    def names(self, atoms: NDArray[np.int64]) -> str:
        """The first few atoms by name."""
        return ", ".join(self.name(int(atom)) for atom in atoms[:4]) + (", ..." if len(atoms) > 4 else "")


def check_crystal(crystal: Crystal) -> tuple[str, ...]:
    """Warnings about a structure, as ``name: explanation``; none for a sound framework.

    The names are ``overlapping-atoms``, ``odd-valence``, ``missing-hydrogens``, ``isolated-atoms``,
    ``guest-molecules``, ``charged-framework``, ``no-metal``, ``no-carbon``, ``odd-electrons``,
    ``open-shell-metal`` and ``odd-density``; those in `NOTES` are facts about the chemistry rather than signs
    of a faulty file.
    """
    bonded = _bonded(crystal)
    return tuple(text for check in _CHECKS if (text := check(bonded)))


def _bonded(crystal: Crystal) -> _Bonded:
    numbers = crystal.atomic_numbers
    radii, metals = COVALENT_RADII[numbers], IS_METAL[numbers]
    # Bonds between two metals are of no interest here, so the cutoff need not reach so far.
    partner = radii[~metals].max(initial=0.7)
    pairs = pairs_within(crystal.cell, crystal.frac_coords, BOND_RATIO * float(radii.max() + partner))
    ratios = bond_ratios(pairs, numbers)
    near = (ratios < BOND_RATIO) & ~(metals[pairs.first] & metals[pairs.second])
    # Hydrogens of neighbouring groups are no bond partners, apart from H2.
    lone = np.bincount(pairs.first[near], minlength=len(numbers)) == 1
    hydrogens = (numbers[pairs.first] == HYDROGEN) & (numbers[pairs.second] == HYDROGEN)
    near &= ~hydrogens | (lone[pairs.first] & lone[pairs.second])
    return _Bonded(crystal, pairs, ratios, pairs.take(near))


def _overlapping_atoms(bonded: _Bonded) -> str:
    pairs, numbers = bonded.pairs, bonded.numbers
    coordination = bonded.coordination()
    hydrogens = (numbers[pairs.first] == HYDROGEN) & (numbers[pairs.second] == HYDROGEN)
    hydrogens &= (coordination[pairs.first] > 0) & (coordination[pairs.second] > 0)
    crowded = hydrogens & (pairs.distances < HYDROGEN_CONTACT_ANGSTROM) & (pairs.distances > 0.8)
    bad = np.flatnonzero((bonded.ratios < COLLISION_RATIO) | crowded)
    if not len(bad):
        return ""
    worst = bad[np.argmin(bonded.ratios[bad])]
    first, second = bonded.name(int(pairs.first[worst])), bonded.name(int(pairs.second[worst]))
    return (
        f"overlapping-atoms: {len(bad) // 2} pairs too close, {first} and {second} at "
        f"{pairs.distances[worst]:.2f} Å; disorder may be unresolved"
    )


def _odd_valence(bonded: _Bonded) -> str:
    numbers = bonded.numbers
    # Boron is left out: carboranes and borohydrides share electrons otherwise.
    count = bonded.coordination(~IS_METAL[numbers] & (numbers != BORON))
    most = np.full(119, 99)
    most[list(MOST_NEIGHBOURS)] = list(MOST_NEIGHBOURS.values())
    odd = np.flatnonzero(count > most[numbers])
    if not len(odd):
        return ""
    return f"odd-valence: too many neighbours around {bonded.names(odd)}; disorder may be unresolved"


def _missing_hydrogens(bonded: _Bonded) -> str:
    numbers, bonds = bonded.numbers, bonded.bonds
    count = bonded.coordination()
    terminal = count[bonds.first] == 1
    to_metal = IS_METAL[numbers[bonds.second]] & (bonds.distances > LONGEST_OXO_ANGSTROM)
    to_carbon = (numbers[bonds.second] == CARBON) & (bonds.distances > LONGEST_NITRILE_ANGSTROM)
    bare = (numbers[bonds.first] == OXYGEN) & to_metal | (numbers[bonds.first] == NITROGEN) & to_carbon
    lacking = np.zeros(len(numbers), dtype=bool)
    lacking[bonds.first[terminal & bare]] = True
    lacking |= (numbers == CARBON) & (count > 0) & (count < 4) & (bonded.imbalance() > OPEN_VALENCE)
    atoms = np.flatnonzero(lacking)
    if not len(atoms):
        return ""
    return f"missing-hydrogens: {len(atoms)} atoms seem to lack hydrogens ({bonded.names(atoms)}); add them"


def _isolated_atoms(bonded: _Bonded) -> str:
    # Heavy cations such as Tl+ keep their distance, and are plainly counter-ions.
    alone = np.flatnonzero((bonded.coordination() == 0) & ~IS_METAL[bonded.numbers])
    if not len(alone):
        return ""
    return (
        f"isolated-atoms: {bonded.names(alone)} bonded to nothing; "
        "a counter-ion, or solvent without its hydrogens"
    )


def _guest_molecules(bonded: _Bonded) -> str:
    part, with_metal = bonded.parts
    guests = np.flatnonzero(~with_metal & (np.bincount(part) > 1))
    if not with_metal.any() or not len(guests):
        return ""
    text = bonded.formulas(part, guests)
    return f"guest-molecules: {text} not bonded to any metal; solvent, or ions that balance charge"


def _charged_framework(bonded: _Bonded) -> str:
    """A framework beside ions: parts that could not be neutral molecules, or metals bonded to nothing."""
    numbers = bonded.numbers
    part, with_metal = bonded.parts
    sizes = np.bincount(part)
    frame = with_metal & (sizes > 1)
    electrons = np.bincount(part, weights=numbers)
    ions = [
        i
        for i in np.flatnonzero(~frame)
        if electrons[i] % 2 or with_metal[i] or formula_sum(numbers[part == i]).replace(" ", "") in EVEN_IONS
    ]
    if not frame.any() or not ions:
        return ""
    text = bonded.formulas(part, np.array(ions))
    return (
        f"charged-framework: {text} seem to be ions, which a charged framework balances; none may be missing"
    )


def _no_metal(bonded: _Bonded) -> str:
    return "" if IS_METAL[bonded.numbers].any() else "no-metal: no metal atom, so no metal-organic framework"


def _no_carbon(bonded: _Bonded) -> str:
    return (
        "" if (bonded.numbers == CARBON).any() else "no-carbon: no carbon atom, so no metal-organic framework"
    )


def _odd_electrons(bonded: _Bonded) -> str:
    if int(bonded.numbers.sum()) % 2 == 0 or OPEN_SHELL & set(bonded.numbers.tolist()):
        return ""
    return "odd-electrons: an odd number of electrons without an open-shell metal; an atom or ion is missing"


def _open_shell_metal(bonded: _Bonded) -> str:
    found = sorted(OPEN_SHELL & set(bonded.numbers.tolist()))
    if not found:
        return ""
    names = ", ".join(gemmi.Element(number).name for number in found)
    return f"open-shell-metal: {names} may carry unpaired electrons; DFT gaps err more there"


def _odd_density(bonded: _Bonded) -> str:
    grams = sum(gemmi.Element(number).weight for number in bonded.numbers.tolist()) / 0.602214
    density = grams / bonded.crystal.volume
    low, high = DENSITY_RANGE
    return (
        "" if low < density < high else f"odd-density: {density:.2f} g/cm³; check the cell and its contents"
    )


_CHECKS: tuple[Callable[[_Bonded], str], ...] = (
    _overlapping_atoms,
    _odd_valence,
    _missing_hydrogens,
    _isolated_atoms,
    _guest_molecules,
    _charged_framework,
    _no_metal,
    _no_carbon,
    _odd_electrons,
    _open_shell_metal,
    _odd_density,
)
