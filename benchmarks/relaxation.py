"""Whether a short relaxation with CHGNet, a universal potential, mends prepared experimental structures.

Files of CoRE MOF are prepared as a screening does, then relaxed in a fixed cell: hydrogens alone, or all
atoms. Each geometry is predicted, and compared with the gap of the relaxed structure of the same refcode.
CHGNet comes with the extra ``benchmark``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import process_time

import numpy as np
from ase.constraints import FixAtoms
from ase.optimize import FIRE

from benchmarks.measure import add_model, add_table, loaded, parser_of, print_table, read_splits
from benchmarks.pairs import add_pairs, read_pairs
from mofgap.crystals.convert import to_ase
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import HYDROGEN
from mofgap.crystals.prepare.steps import prepare

FORCE_EV_PER_ANGSTROM = 0.05
"""A relaxation ends below this force."""


def relaxer(hydrogens: bool, n_steps: int) -> Callable[[Crystal], Crystal]:
    """A function that relaxes the atoms of a crystal in its cell with CHGNet.

    Args:
        hydrogens: Move hydrogens alone.
        n_steps: Most steps of a relaxation.
    """
    from chgnet.model.dynamics import CHGNetCalculator

    calculator = CHGNetCalculator(use_device="cpu", check_cuda_mem=False)

    def relax(crystal: Crystal) -> Crystal:
        atoms = to_ase(crystal)
        if hydrogens:
            atoms.set_constraint(FixAtoms(np.flatnonzero(crystal.atomic_numbers != HYDROGEN)))
        atoms.calc = calculator
        FIRE(atoms, logfile=None).run(fmax=FORCE_EV_PER_ANGSTROM, steps=n_steps)
        return replace(crystal, frac_coords=atoms.get_scaled_positions(wrap=False))

    return relax


def main() -> None:
    """Print the error and the cost of each geometry."""
    parser = parser_of(__doc__)
    add_model(parser)
    add_table(parser)
    add_pairs(parser)
    parser.add_argument("--limit", type=int, default=24, help="so many pairs of val, chosen at random")
    parser.add_argument("--max-atoms", type=int, default=120, help="larger cells are left out")
    parser.add_argument("--steps", type=int, default=20, help="most steps of a relaxation")
    options = parser.parse_args()
    predictor = loaded(options.model)
    table = read_splits(options.table, options.target, ["val"])
    small = table.atomic_numbers.map(len) <= options.max_atoms
    pairs = read_pairs(table[small], options.pairs, options.target, options.limit)
    true = np.array(pairs.gap_ev)
    ways: dict[str, Callable[[Crystal], Crystal]] = {
        "prepared": lambda crystal: crystal,
        "and hydrogens relaxed": relaxer(True, options.steps),
        "and all atoms relaxed": relaxer(False, options.steps),
    }
    prepared = [prepare(crystal) for crystal in pairs.raw]
    geometries = {}
    for name, way in ways.items():
        begun = process_time()
        crystals = [way(crystal) for crystal in prepared]
        geometries[name] = crystals, (process_time() - begun) / len(crystals)
    geometries["relaxed by DFT"] = pairs.relaxed, 0.0
    printed = []
    for name, (crystals, seconds) in geometries.items():
        error = np.abs(true - predictor.estimate(crystals).gap_ev)
        printed.append([name, float(error.mean()), float(np.median(error)), seconds])
    print(f"{len(true)} pairs of val; at most {options.steps} steps")
    print_table(["", "MAE, eV", "median", "CPU s each"], printed)


if __name__ == "__main__":
    main()
