"""How far gaps and error bars of CoRE MOF move with the atoms, in eV and in units of the error bar.

Each structure is predicted as it is, and with all atoms displaced at random before it is prepared. Where a
decision of the preparation changes on the way, the step that it makes is looked for, and predicted on both
sides.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from benchmarks.corpus import core_mof
from benchmarks.measure import add_model, loaded, parser_of, print_table
from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.steps import prepare
from mofgap.crystals.reasons import StructureError
from mofgap.crystals.unit_cell import check_apart
from mofgap.uncertainty.columns import Floats

ANGSTROM = (1e-4, 1e-3, 1e-2)
"""Standard deviations of the displacement along each axis."""
N_PLACES = 5
"""Where decisions are looked at on the way from none to the farthest displacement."""
STEP_ANGSTROM = 1e-7
"""How near to the place of a decision its two sides are."""

Path = Callable[[float], Crystal]


def path_of(crystal: Crystal) -> Path:
    """The prepared structure, by how far its atoms are displaced before, angstrom."""
    shift = np.random.default_rng(0).standard_normal((crystal.n_atoms, 3)) @ np.linalg.inv(crystal.cell)
    return lambda angstrom: prepare(replace(crystal, frac_coords=crystal.frac_coords + angstrom * shift))


def are_apart(crystals: list[Crystal]) -> bool:
    """Whether no atoms overlap."""
    try:
        for each in crystals:
            check_apart(each)
    except StructureError:
        return False
    return True


def decisions(crystal: Crystal) -> frozenset[str]:
    """What the preparation says it did."""
    return frozenset(crystal.warnings)


def changes(path: Path) -> Iterator[tuple[str, list[Crystal]]]:
    """Each decision that changes on a path: its name, and the structures on both sides of the change."""
    places = np.linspace(0.0, ANGSTROM[-1], N_PLACES)
    for (low, before), (high, after) in pairwise((place, path(place)) for place in places):
        if decisions(before) == decisions(after):
            continue
        while high - low > STEP_ANGSTROM:
            middle = (low + high) / 2
            between = path(middle)
            if decisions(between) == decisions(before):
                low, before = middle, between
            else:
                high, after = middle, between
        names = {text.partition(":")[0] for text in decisions(before) ^ decisions(after)}
        yield ", ".join(sorted(names)), [before, after]


def print_moves(gap: Floats, std: Floats, names: list[str], reached: list[bool]) -> None:
    """Print how far gaps (n, 1 + n_displacements) and error bars move, and the farthest structures."""
    rows = []
    for column, angstrom in enumerate(ANGSTROM, 1):
        moved = np.abs(gap[:, column] - gap[:, 0])
        kinds = {"gap, eV": moved, "error bar, eV": np.abs(std[:, column] - std[:, 0])}
        kinds["gap / error bar"] = moved / std[:, 0]
        for what, values in kinds.items():
            rows.append([f"{angstrom:g}", what, *np.quantile(values, [0.5, 0.95, 1.0]).tolist()])
    print_table(["displaced by, angstrom", "change of", "median", "95 %", "largest"], rows)
    moved = np.abs(gap[:, -1] - gap[:, 0])
    farthest = [
        [names[i], gap[i, 0], gap[i, -1], std[i, 0], "changed" if reached[i] else "same"]
        for i in np.argsort(-moved)[:5]
    ]
    print_table(["moved farthest", "gap, eV", "displaced", "error bar", "decisions"], farthest)


def print_steps(steps: dict[str, list[float]]) -> None:
    """Print the steps of the gap by the decision that makes them."""
    rows = [
        [name, len(found), *np.quantile(found, [0.5, 1.0]).tolist()] for name, found in sorted(steps.items())
    ]
    print_table(["decision that changed", "times", "median step, eV", "largest"], rows)


def main() -> None:
    """Print medians, 95 % quantiles and the largest values, then the steps that decisions make."""
    parser = parser_of(__doc__)
    add_model(parser)
    parser.add_argument("--every", type=int, default=80, help="take each n-th file only")
    parser.add_argument("--atoms", type=int, default=150, help="of the largest cell")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    predictor = loaded(options.model)
    gaps, stds, names, reached = [], [], [], []
    steps: dict[str, list[float]] = defaultdict(list)
    for name, data in core_mof(options.every):
        entry = read_cif_bytes(data, name, max_atoms=options.atoms)[0]
        if not isinstance(entry, Crystal):
            continue
        path = path_of(entry)
        crystals = [path(angstrom) for angstrom in (0.0, *ANGSTROM)]
        if not are_apart(crystals):
            continue
        found = predictor.estimate(crystals)
        gaps.append(found.gap_ev)
        stds.append(found.gap_std_ev)
        names.append(name)
        reached.append(decisions(crystals[0]) != decisions(crystals[-1]))
        for what, sides in changes(path):
            low, high = predictor.estimate(sides).gap_ev
            steps[what].append(abs(high - low))
    print(f"{len(gaps)} structures of at most {options.atoms} atoms")
    print_moves(np.array(gaps), np.array(stds), names, reached)
    print_steps(steps)


if __name__ == "__main__":
    main()
