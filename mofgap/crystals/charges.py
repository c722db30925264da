"""The charge that ligands carry in a Lewis structure, against the most that the metals can balance.

Bonds between metals and ligands are cut with both electrons on the ligand. Open valences of neighbouring
atoms are then paired to double and triple bonds, as many as there can be. Those left over are negative
charges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import COVALENT_RADII, IS_METAL, BondGraph, bond_graph
from mofgap.crystals.elements import BORON, CARBON, HYDROGEN, NITROGEN, OXYGEN, SILICON

# Valences of the neutral atoms; sulfur, phosphorus, nitrogen and the halogens have higher ones too.
_VALENCE = {1: 1, 5: 3, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 15: 3, 16: 2, 17: 1, 32: 4, 33: 3, 34: 2, 35: 1}
_VALENCE |= {51: 3, 52: 2, 53: 1}
CHALCOGENS, PNICTOGENS, HALOGENS = frozenset({8, 16, 34}), frozenset({15, 33}), frozenset({17, 35, 53})
# The highest oxidation state of each metal in ordinary compounds.
_STATES = {
    1: (3, 11, 19, 37, 47, 55),
    2: (4, 12, 20, 28, 29, 30, 38, 48, 56, 80, 88),
    3: (13, 21, 24, 26, 27, 31, 39, 44, 45, 49, 57, *range(59, 72), 79, 81, 83, 89, 95, 96),
    4: (22, 25, 40, 46, 50, 58, 65, 72, 77, 78, 82, 84, 90),
    5: (23, 41, 51, 73, 91),
    6: (42, 74, 76, 92, 93, 94),
    7: (43, 75),
}
_HIGHEST = {number: state for state, numbers in _STATES.items() for number in numbers}
# Chromates and dichromates hold Cr(VI); their bonds to oxygen are shorter than any of Cr(III); angstrom.
_CHROMIUM, _CHROMATE, _LONGEST_CHROMATE_BOND = 24, 6, 1.75
# Sn, Sb, Tl and Pb may keep a lone pair, which lowers their oxidation state by two. Pauling's orders of their
# bonds then add up to less than one above the lower state. On train rows of QMOF these sums are at most 2.6,
# 3.4, 0.6 and 2.4 in the lower state, and at least 3.4, 6.6, 2.4 and 3.1 in the higher one.
_LONE_PAIR = (50, 51, 81, 82)
_PAULING_ANGSTROM = 0.37
"""A bond that is longer by so much has an order that is e times smaller."""

MOST_NEIGHBOURS_OF_BORON = 4
"""In a cluster it has more, and no Lewis structure."""

EVEN_IONS = frozenset({"CO3", "O4S", "O4Se", "F6Si", "F6Ge"})
"""Ions with an even number of electrons, by formula; those with an odd one are known by it."""

Path = list[tuple[int, int]]


def uncompensated_charge(bonded: BondGraph) -> int:
    """By how much the ligands' negative charge exceeds what the metals of a cell can balance, in e.

    It is above 0 if a hydrogen or a cation is missing; 0 if the charges balance or cannot be found. The
    opposite excess is not looked for: a ligand such as quinone or porphyrin easily takes two more electrons.
    """
    numbers = bonded.numbers
    metals = numbers[IS_METAL[numbers]].tolist()
    if not metals or any(number not in _HIGHEST for number in metals):
        return 0
    short = bonded.bonds.first[bonded.bonds.distances < _LONGEST_CHROMATE_BOND]
    n_chromates = int((numbers[np.unique(short)] == _CHROMIUM).sum())
    most = sum(_HIGHEST[number] for number in metals) + n_chromates * (_CHROMATE - _HIGHEST[_CHROMIUM])
    most -= 2 * _n_lone_pairs(bonded)
    lewis = lewis_structure(bonded)
    return 0 if lewis is None else max(0, -lewis.total_charge - most)


def _n_lone_pairs(bonded: BondGraph) -> int:
    """How many metals of `_LONE_PAIR` keep their lone pair, by the sum of the orders of their bonds."""
    numbers, bonds = bonded.numbers, bonded.bonds
    radii = COVALENT_RADII[numbers]
    orders = np.exp((radii[bonds.first] + radii[bonds.second] - bonds.distances) / _PAULING_ANGSTROM)
    total = np.bincount(bonds.first, weights=orders, minlength=len(numbers))
    heavy = np.isin(numbers, _LONE_PAIR)
    highest = np.array([_HIGHEST[number] for number in numbers[heavy].tolist()])
    return int((total[heavy] < highest - 1).sum())


def ions(bonded: BondGraph) -> NDArray[np.int64]:
    """Numbers of the parts outside the framework that could not be neutral molecules.

    They have an odd number of electrons, a formula in `EVEN_IONS`, a Lewis structure of positive charge, or
    are a metal bonded to nothing. A negative charge is no sign: hydrogens may be missing.
    """
    part, with_metal = bonded.parts
    odd = np.bincount(part, weights=bonded.numbers) % 2 == 1
    lone_metal = with_metal & (np.bincount(part) == 1)
    even: dict[str, bool] = {}
    found = np.flatnonzero(odd & ~with_metal | lone_metal).tolist()
    for i in np.intersect1d(np.flatnonzero(~with_metal & ~odd), bonded.molecules):
        formula = bonded.formula(i)
        if formula not in even:
            even[formula] = formula in EVEN_IONS or _is_cation(bonded, part == i)
        found += [int(i)] if even[formula] else []
    return np.array(sorted(found), dtype=np.int64)


def _is_cation(bonded: BondGraph, atoms: NDArray[np.bool_]) -> bool:
    """Whether the Lewis structure of a molecule has a positive charge."""
    crystal, numbers = bonded.crystal, bonded.numbers[atoms]
    alone = bond_graph(replace(crystal, frac_coords=crystal.frac_coords[atoms], atomic_numbers=numbers))
    # With a carbonyl, nitrogen in such a ring is that of a neutral pyridone, as in quinacridone.
    carbonyl = np.isin(numbers, list(CHALCOGENS)) & (alone.coordination() == 1)
    lewis = lewis_structure(alone, pyridinium=not carbonyl.any())
    return lewis is not None and lewis.total_charge > 0


def lewis_structure(bonded: BondGraph, *, pyridinium: bool = True) -> Lewis | None:
    """The ligands' atoms with their double and triple bonds; None where `open_valences` gives none.

    Args:
        bonded: A crystal with its bonds.
        pyridinium: Whether nitrogen with three neighbours in a six-membered ring may be a cation at once.
    """
    lewis, numbers = open_valences(bonded), bonded.numbers.tolist()
    if lewis is None:
        return None
    if pyridinium:
        lewis.find_pyridinium()
    lewis.find_azolates(numbers)
    pyridines = lewis.pyridines(numbers)
    lewis.pair_up(bonded)
    lewis.spare_pyridines(pyridines)
    lewis.spare_carbon(numbers)
    return lewis


@dataclass(eq=False)
class Lewis:
    """Atoms that share electrons.

    Attributes:
        neighbours: Of each atom, those among the ligands' atoms.
        open: Of each atom, the valences not yet used.
        cations: Atoms that gain a valence by giving an electron away: nitrogen with three neighbours.
        charge: Of the atoms with more or fewer neighbours than neutral ones, in e.
        partners: Of each atom, those to which it has a second or third bond, each as often.
    """

    neighbours: list[list[int]]
    open: list[int]
    cations: set[int]
    charge: int
    partners: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.partners = [[] for _ in self.open]

    @property
    def total_charge(self) -> int:
        """In e; each valence that is left open is filled with an electron."""
        return self.charge - sum(self.open)

    def find_pyridinium(self) -> None:
        """Make a cation of nitrogen with three neighbours in a six-membered ring of unsaturated atoms.

        Where it is neutral, as in pyridone, one valence stays open after all have paired: the charges cancel.
        """
        for i in sorted(self.cations):
            if self._in_hexagon(i):
                self.cations.remove(i)
                self.open[i] += 1
                self.charge += 1

    def find_azolates(self, numbers: list[int]) -> None:
        """Make an anion of each unsaturated five-membered ring with two nitrogens or more that bear nothing.

        Else two such rings side by side would pair over the bond between them, as no azolate does.
        """
        bare = [number == NITROGEN and len(self.neighbours[i]) == 2 for i, number in enumerate(numbers)]
        for i in np.flatnonzero(bare).tolist():
            for ring in rings((i,), self.neighbours, 5):
                if sum(bare[j] for j in ring) > 1 and all(self.open[j] == 1 for j in ring):
                    self.open[i] -= 1
                    self.charge -= 1

    def pyridines(self, numbers: list[int]) -> set[int]:
        """Nitrogen with two neighbours in a six-membered ring of unsaturated atoms."""
        bare = (i for i, number in enumerate(numbers) if number == NITROGEN and len(self.neighbours[i]) == 2)
        return {i for i in bare if self.open[i] and self._in_hexagon(i)}

    def _in_hexagon(self, i: int) -> bool:
        """Whether an atom is in a six-membered ring of unsaturated atoms."""
        ends = {j for j in self.neighbours[i] if self.open[j]}
        return any(self._reaches(j, ends - {j}, 4, {i, j}) for j in ends)

    def _reaches(self, i: int, goals: set[int], n_bonds: int, met: set[int]) -> bool:
        """Whether so many bonds lead from an atom to a goal, over unsaturated atoms that were not met."""
        if not n_bonds:
            return i in goals
        ahead = [j for j in self.neighbours[i] if self.open[j] and j not in met]
        return any(self._reaches(j, goals, n_bonds - 1, met | {j}) for j in ahead)

    def pair_up(self, bonded: BondGraph) -> None:
        """Pair atoms that have one choice left, then those of the shortest bond, and so on."""
        self._settle(i for i, left in enumerate(self.open) if left)
        bonds = bonded.bonds
        lengths = np.round(bonded.bonds.distances, 3).tolist()
        bonds_by_length = sorted(zip(lengths, bonds.first.tolist(), bonds.second.tolist(), strict=True))
        for _, i, j in bonds_by_length:
            if i < j and self.open[i] and self.open[j]:
                self._join(i, j)
                self._settle([i, j, *self.neighbours[i], *self.neighbours[j]])

    def spare_pyridines(self, pyridines: set[int]) -> None:
        """Pair two open valences of such nitrogen, which is neutral wherever the shortest bonds lie."""
        for i in sorted(pyridines):
            if self.open[i] and (path := self._path(i, lambda j: j in pyridines and self.open[j] > 0)):
                self._flip(path)

    def spare_carbon(self, numbers: list[int]) -> None:
        """Move open valences from carbon to other elements, or make a cation of nitrogen next to it.

        Two that meet pair. A pyridinium ring has an open valence only as long as its nitrogen is neutral.
        """
        goals: tuple[Callable[[int], bool], ...] = (
            lambda j: self.open[j] > 0 and numbers[j] == CARBON,
            lambda j: self.open[j] > 0,
            lambda j: j in self.cations,
        )
        for i in [i for i, left in enumerate(self.open) if left and numbers[i] == CARBON]:
            while self.open[i]:
                path = next(filter(None, (self._path(i, goal) for goal in goals)), None)
                if path is None:
                    break
                self._flip(path)

    def _settle(self, atoms: Iterable[int]) -> None:
        queue = deque(atoms)
        while queue:
            i = queue.popleft()
            if not self.open[i]:
                continue
            choices = {j for j in self.neighbours[i] if self.open[j] and j != i}  # i: its own image
            if len(choices) == 1:
                j = choices.pop()
                self._join(i, j)
                queue.extend((i, j, *self.neighbours[j], *self.neighbours[i]))

    def _join(self, i: int, j: int) -> None:
        self.partners[i].append(j)
        self.partners[j].append(i)
        self.open[i] -= 1
        self.open[j] -= 1

    def _path(self, start: int, goal: Callable[[int], bool]) -> Path | None:
        """The shortest path from an atom to a goal along single and double bonds by turns."""
        seen, queue = {start}, deque[tuple[int, Path]]([(start, [])])
        while queue:
            i, path = queue.popleft()
            for j in self.neighbours[i]:
                if j in seen:
                    continue
                if goal(j):
                    return [*path, (i, j)]
                for k in self.partners[j]:
                    if k not in seen and k != i:
                        seen |= {j, k}
                        queue.append((k, [*path, (i, j), (j, k)]))
        return None

    def _flip(self, path: Path) -> None:
        """Exchange single and double bonds along a path, which takes an open valence from each end."""
        for place, (i, j) in enumerate(path):
            for one, other in ((i, j), (j, i)):
                partners = self.partners[one]
                if place % 2:
                    partners.remove(other)
                else:
                    partners.append(other)
        # An end without an open valence gives an electron away instead.
        start, end = path[0][0], path[-1][1]
        self.open[start] -= 1
        if self.open[end]:
            self.open[end] -= 1
        else:
            self.cations.remove(end)
            self.charge += 1


def open_valences(bonded: BondGraph) -> Lewis | None:
    """The ligands' atoms joined by single bonds; None if one has too many neighbours, or is of rare kind."""
    numbers, metal, bonds = bonded.numbers.tolist(), IS_METAL[bonded.numbers], bonded.bonds
    neighbours = bonds.take(bonds.both(~metal)).neighbours(len(numbers))
    lewis = Lewis(neighbours, [0] * len(numbers), set(), 0)
    on_metal = set(bonds.first[metal[bonds.second]].tolist())
    for i in np.flatnonzero(~metal).tolist():
        if numbers[i] not in _VALENCE:
            return None
        if numbers[i] == HYDROGEN and not neighbours[i] and i not in on_metal:
            lewis.charge += 1  # a proton halfway between two oxygens
            continue
        ends = [numbers[j] for j in neighbours[i] if len(neighbours[j]) == 1]
        if numbers[i] == BORON and len(neighbours[i]) > MOST_NEIGHBOURS_OF_BORON:
            return None
        if numbers[i] == OXYGEN and len(neighbours[i]) == 3 and OXYGEN in (numbers[j] for j in neighbours[i]):
            return None  # two disordered waters in one place, no oxonium
        valence, charge = _valence_and_charge(numbers[i], len(neighbours[i]), ends)
        if _is_onium(numbers[i], [numbers[j] for j in neighbours[i]]):
            valence, charge = len(neighbours[i]), 1
        lewis.charge += charge
        lewis.open[i] = valence - len(neighbours[i])
        if lewis.open[i] < 0:
            return None
        if numbers[i] == NITROGEN and valence == len(neighbours[i]) == 3:
            lewis.cations.add(i)
    return lewis


def _is_onium(number: int, around: list[int]) -> bool:
    """Whether an atom is that of a cation such as tetraphenylphosphonium or trimethylsulfonium."""
    may_be = number in PNICTOGENS | CHALCOGENS and len(around) == _VALENCE[number] + 1
    return may_be and set(around) <= {HYDROGEN, CARBON}


def _valence_and_charge(number: int, n: int, ends: list[int]) -> tuple[int, int]:
    """Valence and charge of an atom with n neighbours, some of which are bonded to nothing else."""
    valence = _VALENCE[number]
    if number == NITROGEN:
        if (n == 3 and not CHALCOGENS.isdisjoint(ends)) or (n == 2 and NITROGEN in ends):
            return 5, 0  # nitro groups, nitrate, N-oxides; azide
        return (4, 1) if n == 4 else (valence, 0)
    if number == OXYGEN and n == 3:
        return 3, 1
    if number == CARBON and n == 1 and ends == [OXYGEN]:
        return 2, 0  # carbon monoxide
    if n > valence and number in (BORON, SILICON):
        return n, valence - n
    if number in PNICTOGENS and n > 3:
        return (5, 0) if n < 6 else (6, -1)
    if number in CHALCOGENS and n > 2:
        return (4, 0) if n == 3 else (6, 0)
    if number in HALOGENS and n > 1:
        n_oxo = sum(end in CHALCOGENS for end in ends)
        return (7, 0) if n == 4 else (5, 0) if n == 3 and n_oxo > 1 else (n, 0)
    return valence, 0


def rings(path: tuple[int, ...], neighbours: list[list[int]], size: int) -> Iterator[tuple[int, ...]]:
    """The rings of a size that a path of bonded atoms belongs to, from its first atom round."""
    if len(path) == size:
        if path[0] in neighbours[path[-1]]:
            yield path
        return
    for j in neighbours[path[-1]]:
        if j not in path:
            yield from rings((*path, j), neighbours, size)
