"""The atom sites of one CIF block: the asymmetric unit before symmetry and disorder."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from mofgap.crystals.block import CARTN, FRACT
from mofgap.crystals.elements import ambiguous, candidates, deuterium, label_occupants, occupants, symbol_of
from mofgap.crystals.formula import parse_formula
from mofgap.crystals.reasons import StructureError, listed, shown

# Refinements write 0.99 or 0.999 for a site they mean to be full.
FULL_OCCUPANCY = 0.985
# Refinements may end a little above a full site.
FULLEST_OCCUPANCY = 1.02
# The occupancy of an alternative of which the file does not say how often it is taken.
UNKNOWN_SHARE = 0.5
# Atoms that moved through many cells of a simulation lie far out; farther, digits of their place are lost.
FARTHEST_CELL = 1e4


@dataclass(frozen=True, eq=False)
class Sites:
    """Atom sites, one row each.

    Attributes:
        labels: Names of the sites in the file, or of a site without one its place.
        atomic_numbers: (n,) atomic numbers.
        frac_coords: (n, 3) fractional coordinates.
        occupancies: (n,) occupancies, 1 where the file says nothing and puts the site in no alternative.
        assemblies: (n,) number of the disorder assembly, 0 for none.
        groups: (n,) number of the alternative within its assembly, negative where the file's is, 0 for none.
    """

    labels: tuple[str, ...]
    atomic_numbers: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    occupancies: NDArray[np.float64]
    assemblies: NDArray[np.int64]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def partial(self) -> NDArray[np.bool_]:
        """(n,) whether a site is partially occupied."""
        return self.occupancies < FULL_OCCUPANCY

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Sites:
        """The sites of an index or a mask, in its order."""
        index = np.arange(len(self))[rows]
        return Sites(
            tuple(self.labels[i] for i in index),
            self.atomic_numbers[index],
            self.frac_coords[index],
            self.occupancies[index],
            self.assemblies[index],
            self.groups[index],
        )


def sites_of(
    block: cif.Block, structure: gemmi.SmallStructure, cell: NDArray[np.float64], majority: bool
) -> tuple[Sites, list[str]]:
    """The atom sites of a block and the warnings met.

    Args:
        block: The data block.
        structure: Gemmi's reading of it.
        cell: (3, 3) lattice vectors as rows, in angstrom.
        majority: Whether a site of several elements is read as the likeliest of them.

    Raises:
        StructureError: If ``block`` lists no atoms, or a site has no known element, several elements, or
            unusable coordinates.
    """
    labels, symbols, occupancies, rows = [], [], [], []
    for site in structure.sites:
        fract = site.fract
        labels.append(site.label)
        symbols.append(site.type_symbol)
        occupancies.append(site.occ)
        rows.append((fract.x, fract.y, fract.z))
    warnings: list[str] = []
    frac_coords = np.array(rows, dtype=np.float64).reshape(-1, 3)
    if not all(block.find_values(tag) for tag in FRACT):
        frac_coords = _from_cartesian(block, cell)
        warnings.append("cartesian-coordinates: only Cartesian coordinates given, taken with a along x")
    if len(frac_coords) != len(labels) or not labels:
        raise StructureError("no-atoms: the file lists no atom sites; export it again with its coordinates")
    if not block.find_values("_atom_site_type_symbol"):
        symbols = [""] * len(labels)  # gemmi repeats the labels there
    names = labels
    if not all(map(str.strip, labels)):
        names = [label if label.strip() else f"number {i} (blank label)" for i, label in enumerate(labels, 1)]
    assemblies, groups = _disorder_columns(block, len(labels))
    occupancy = np.array(occupancies, dtype=np.float64)
    given = [value not in ("?", ".") for value in block.find_values("_atom_site_occupancy")]
    unknown = ~np.array(given) if len(given) == len(labels) else np.ones(len(labels), dtype=bool)
    occupancy[unknown & _alternatives(assemblies, groups)] = UNKNOWN_SHARE
    occupancy[(occupancy < 0) | (occupancy > FULLEST_OCCUPANCY)] = 1.0
    is_real = ~_dummies(block, len(labels)) & (occupancy > 0)
    # The CSD marks the minor positions of disordered atoms so, and gives no occupancy.
    minor = is_real & unknown & np.array([label.endswith("?") and label != "?" for label in labels])
    warnings += _minor_positions([names[i] for i in np.flatnonzero(minor)], majority)
    real = np.flatnonzero(is_real & ~minor)
    found, shares = _elements(labels, symbols, names, real, majority, warnings)
    formula = formula_of(block)
    warnings += ambiguous((symbols[i] for i in real), formula)
    warnings += deuterium(symbols[i] or labels[i] for i in real)
    numbers = _atomic_numbers(labels, names, real, found, formula, warnings)
    for i, share in shares.items():
        occupancy[i] *= share
    warnings += _odd_occupancies(block, names) + _unplaced_hydrogens(block, names, real)
    sites = Sites(tuple(names), numbers, frac_coords, occupancy, assemblies, groups)
    if n_empty := int((~is_real).sum()):
        warnings.append(f"empty-sites: {n_empty} dummy sites or sites of zero occupancy left out")
    return _placed(sites.take(real)), warnings


def formula_of(block: cif.Block) -> dict[int, float]:
    """The composition that the block states, by atomic number; empty if it states none."""
    value = block.find_value("_chemical_formula_sum")
    return parse_formula(cif.as_string(value)) if value and value not in ("?", ".") else {}


def _from_cartesian(block: cif.Block, cell: NDArray[np.float64]) -> NDArray[np.float64]:
    if not all(block.find_values(tag) for tag in CARTN):
        raise StructureError(
            "missing-coordinates: not all of x, y and z have a column; export the file with its coordinates"
        )
    table = block.find(list(CARTN))
    cart = np.array([[cif.as_number(value) for value in row] for row in table], dtype=np.float64)
    return cart.reshape(-1, 3) @ np.linalg.inv(cell)


def _odd_occupancies(block: cif.Block, labels: list[str]) -> list[str]:
    """A warning of invalid occupancies, which count as 1 as missing ones do."""
    given = zip(labels, block.find_values("_atom_site_occupancy"), strict=False)
    odd = [
        f"{label} ({value})"
        for label, value in given
        if value not in ("?", ".") and not 0 <= cif.as_number(value) <= FULLEST_OCCUPANCY
    ]
    if not odd:
        return []
    return [f"odd-occupancy: {listed(odd)} counted as 1; correct _atom_site_occupancy"]


def _minor_positions(names: list[str], majority: bool) -> list[str]:
    """A warning of minor positions that are left out."""
    if names and not majority:
        raise StructureError(
            f"partial-occupancy: {listed(names)}: the label marks a minor position of a disordered atom; "
            "delete one of the positions, or let --disorder majority leave out the minor ones"
        )
    return [f"disorder-majority: minor positions left out: {listed(names)}"] if names else []


def _unplaced_hydrogens(block: cif.Block, labels: list[str], real: NDArray[np.int64]) -> list[str]:
    """A warning of hydrogens that the file counts without giving them a place."""
    values = list(block.find_values("_atom_site_attached_hydrogens"))
    if len(values) != len(labels):
        return []
    bare = [labels[i] for i in real if cif.as_number(values[i]) > 0]
    if not bare:
        return []
    return [
        f"missing-hydrogens: {listed(bare)} have hydrogens (_atom_site_attached_hydrogens) "
        "that the file does not place; add them"
    ]


def _disorder_columns(block: cif.Block, n_sites: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Disorder assemblies and groups as numbers, 0 where the file gives ``.``, ``?`` or nothing."""

    def column(tag: str) -> NDArray[np.int64]:
        values = list(block.find_values(tag))
        if len(values) != n_sites:
            return np.zeros(n_sites, dtype=np.int64)
        codes = {"?": 0, ".": 0, "0": 0}
        for value in values:
            codes.setdefault(value, -len(codes) if value.startswith("-") else len(codes))
        return np.array([codes[value] for value in values], dtype=np.int64)

    return column("_atom_site_disorder_assembly"), column("_atom_site_disorder_group")


def _alternatives(assemblies: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n_sites,) whether another group stands in for each site's: of its assembly, or its own images."""
    if not groups.any():
        return np.zeros(len(groups), dtype=bool)
    alternatives = {
        a: np.unique(groups[(assemblies == a) & (groups != 0)]) for a in np.unique(assemblies).tolist()
    }
    many = [a for a, found in alternatives.items() if len(found) > 1]
    chosen: NDArray[np.bool_] = (groups < 0) | ((groups != 0) & np.isin(assemblies, many))
    return chosen


def _elements(
    labels: list[str],
    symbols: list[str],
    names: list[str],
    real: NDArray[np.int64],
    majority: bool,
    warnings: list[str],
) -> tuple[dict[int, int], dict[int, float]]:
    """The elements of each real site, from its symbol or from a label of several elements.

    Returns:
        Atomic numbers, and shares of the sites that are not full, by place in the list.

    Raises:
        StructureError: If a symbol is not the symbol of an element, or a site has several elements and
            ``majority`` is False.
    """
    # A number refers to some other table.
    kinds = {symbol: occupants(symbol) for symbol in set(symbols) if symbol and not symbol.isdecimal()}
    found, shares, shared, unknown = {}, {}, [], []
    for i in real.tolist():
        elements = kinds.get(symbols[i])
        if elements is None:
            elements = label_occupants(labels[i])
            if not elements:
                continue
        elif not elements:
            unknown.append(f"{shown(names[i])} ({shown(symbols[i])})")
            continue
        found[i], share = elements[0]
        if share < 1.0:
            shares[i] = min(sum(each for _, each in elements), 1.0)
        if len(elements) > 1:
            shared.append(f"{shown(names[i])} ({shown(symbols[i])})" if symbols[i] else names[i])
    if unknown:
        raise _no_element(unknown)
    if shared and not majority:
        raise StructureError(
            f"partial-occupancy: {listed(shared)}: several elements on a site; choose one, "
            "or let --disorder majority keep the likeliest"
        )
    if shared:
        warnings.append(f"disorder-majority: the likeliest of several elements taken for {listed(shared)}")
    return found, shares


def _atomic_numbers(
    labels: list[str],
    names: list[str],
    real: NDArray[np.int64],
    found: dict[int, int],
    formula: dict[int, float],
    warnings: list[str],
) -> NDArray[np.int64]:
    """(n_sites,) atomic numbers of the real sites, from labels where none was found before.

    The stated formula settles which of several elements a label means.
    """
    numbers = np.zeros(len(labels), dtype=np.int64)
    guessed, unknown = [], []
    for i in real.tolist():
        if i in found:
            numbers[i] = found[i]
            continue
        choices = candidates(labels[i])
        stated = tuple(number for number in choices if number in formula)
        if not stated and _may_mean_another(labels[i].strip(), choices):
            guessed.append(f"{labels[i]} as {symbol_of(choices[0])}")
        choices = stated or choices
        if choices:
            numbers[i] = choices[0]
        else:
            unknown.append(names[i])
    if unknown:
        raise _no_element(unknown)
    if guessed:
        warnings.append(f"ambiguous-element: no type symbols, read {listed(guessed, 5)}")
    return numbers


def _may_mean_another(label: str, choices: tuple[int, ...]) -> bool:
    """Whether a label read as the first of some elements, such as CA1, Car1 or MOF1, may mean another."""
    if label[1:2].isupper() and len(choices) > 1:
        return True
    goes_on = label[2:3].isalpha() and label[1:2].isupper() == label[2:3].isupper()
    return goes_on and bool(choices) and len(symbol_of(choices[0])) == 2


def _no_element(sites: list[str]) -> StructureError:
    return StructureError(
        f"unknown-element: site {listed(sites)} names no element; write one element for each atom in "
        "_atom_site_type_symbol, or delete the row if it is a dummy site"
    )


def _dummies(block: cif.Block, n_sites: int) -> NDArray[np.bool_]:
    """(n_sites,) whether each site is marked as a dummy."""
    flags = np.array([flag == "dum" for flag in block.find_values("_atom_site_calc_flag")], dtype=bool)
    return flags if len(flags) == n_sites else np.zeros(n_sites, dtype=bool)


def _placed(sites: Sites) -> Sites:
    """The sites, unless there are none or a coordinate is missing or wrong."""
    missing = np.flatnonzero(~np.isfinite(sites.frac_coords).all(axis=1))
    if len(missing):
        raise StructureError(
            f"missing-coordinates: site {listed([sites.labels[i] for i in missing])} has no coordinates, or "
            "not as decimal numbers; place the atom, or delete its row"
        )
    far = np.flatnonzero((np.abs(sites.frac_coords) > FARTHEST_CELL).any(axis=1))
    if len(far):
        raise StructureError(
            f"bad-coordinates: site {listed([sites.labels[i] for i in far])} lies more than "
            f"{FARTHEST_CELL:.0f} cells away; correct its coordinates"
        )
    if len(sites) == 0:
        raise StructureError("no-atoms: every site is a dummy or has zero occupancy; export the file again")
    return sites
