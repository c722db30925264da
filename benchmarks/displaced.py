"""How far gaps and error bars move with the atoms of CoRE MOF, in eV and in units of the error bar.

Each structure is predicted as it is, and with all atoms displaced at random before it is prepared.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace

import numpy as np

from benchmarks.corpus import core_mof
from benchmarks.measure import one_thread, print_table
from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.steps import prepare
from mofgap.crystals.sites import CifError
from mofgap.crystals.unit_cell import check_apart
from mofgap.gap.predictor import load_model

ANGSTROM = (1e-4, 1e-3, 1e-2)
"""Standard deviations of the displacement along each axis."""


def displaced(crystal: Crystal) -> list[Crystal] | None:
    """The prepared structure, and the same displaced ever farther before; None where atoms then overlap."""
    shift = np.random.default_rng(0).standard_normal((crystal.n_atoms, 3)) @ np.linalg.inv(crystal.cell)
    moved = [replace(crystal, frac_coords=crystal.frac_coords + a * shift) for a in (0.0, *ANGSTROM)]
    found = [prepare(each) for each in moved]
    try:
        for each in found:
            check_apart(each)
    except CifError:
        return None
    return found


def main() -> None:
    """Print medians, 95 % quantiles and the largest values."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qmof-pbe")
    parser.add_argument("--every", type=int, default=80, help="take each n-th file only")
    parser.add_argument("--atoms", type=int, default=150, help="of the largest cell")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    one_thread()
    predictor = load_model(options.model, "cpu")
    gaps, stds = [], []
    for name, data in core_mof(options.every):
        entry = read_cif_bytes(data, name, max_atoms=options.atoms)[0]
        if isinstance(entry, Crystal) and (crystals := displaced(entry)) is not None:
            found = predictor.estimate(crystals)
            gaps.append(found.gap_ev)
            stds.append(found.gap_std_ev)
    gap, std = np.array(gaps), np.array(stds)
    rows = []
    for column, angstrom in enumerate(ANGSTROM, 1):
        moved = np.abs(gap[:, column] - gap[:, 0])
        kinds = {"gap, eV": moved, "error bar, eV": np.abs(std[:, column] - std[:, 0])}
        kinds["gap / error bar"] = moved / std[:, 0]
        for what, values in kinds.items():
            rows.append([f"{angstrom:g}", what, *np.quantile(values, [0.5, 0.95, 1.0]).tolist()])
    print(f"{len(gap)} structures of at most {options.atoms} atoms")
    print_table(["displaced by, angstrom", "change of", "median", "95 %", "largest"], rows)


if __name__ == "__main__":
    main()
