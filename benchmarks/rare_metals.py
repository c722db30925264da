"""What may stand for a metal that no training structure has? Gaps by GFN1-xTB tell, without any DFT gap.

Other metals are written into the same frameworks in place of the rare one. Those whose gaps by GFN1-xTB
differ least may stand for it. Beside that is the gap that the model predicts if it reads the rare metal so.
GFN1-xTB comes with the package ``tblite``, the frameworks with ``core-mof`` and the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.corpus import core_mof
from benchmarks.measure import add_model, add_table, loaded, parser_of, print_table, read_rows
from benchmarks.xtb import single_point
from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.elements import atomic_number
from mofgap.crystals.formula import reduced_formula
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.steps import prepare
from mofgap.gap.predictor import GapPredictor
from mofgap.training.unseen import substitute, substitutes_of, tables_of


@dataclass(frozen=True)
class Case:
    """A rare metal, the metal of the frameworks that it is written into, and those that may stand for it."""

    metal: str
    framework: str
    others: tuple[str, ...]


CASES = (
    Case("Ru", "Ru", ("Fe", "Rh", "Pd")),
    Case("Os", "Ru", ("Fe", "Rh", "W", "Re")),
    Case("Ta", "Nb", ("Nb", "V", "Zr")),
    Case("Hf", "Hf", ("Zr", "Ti")),
    Case("Ga", "Ga", ("Al", "In")),
)


def frameworks(metal: str, rows: list[Crystal], most: int, max_atoms: int) -> list[Crystal]:
    """Structures with a metal, one of each formula: rows of the table, and prepared files of CoRE MOF."""
    found: dict[str, Crystal] = {}
    for crystal in (*rows, *from_core_mof(metal, max_atoms)):
        if len(found) == most:
            break
        if atomic_number(metal) in crystal.atomic_numbers and crystal.n_atoms <= max_atoms:
            found.setdefault(reduced_formula(crystal.atomic_numbers), crystal)
    return list(found.values())


def from_core_mof(metal: str, max_atoms: int) -> Iterator[Crystal]:
    """Prepared structures of CoRE MOF with a metal."""
    for name, data in core_mof():
        if metal.encode() in data:
            (entry, *_) = read_cif_bytes(data, name, max_atoms=max_atoms)
            if isinstance(entry, Crystal) and atomic_number(metal) in entry.atomic_numbers:
                yield prepare(entry, PreparationConfig())


def written(crystal: Crystal, old: str, new: str) -> Crystal:
    """The crystal with another metal in the places of one."""
    numbers = crystal.atomic_numbers
    return replace(
        crystal, atomic_numbers=np.where(numbers == atomic_number(old), atomic_number(new), numbers)
    )


def xtb_gap_ev(crystal: Crystal) -> float:
    """Gap by GFN1-xTB above the orbitals with more than one electron, eV; NaN where there is none."""
    if (point := single_point(crystal)) is None:
        return np.nan
    filled = point.occupation > 1
    return float(point.energy_ev[~filled].min() - point.energy_ev[filled].max())


@contextmanager
def reading_as(predictor: GapPredictor, metal: str, shares: Mapping[str, float]) -> Iterator[None]:
    """Let a model read a metal as others while open, or as it is where none are given."""
    networks = (predictor.model, *predictor.model.members)
    tables = [table for network in networks for table in tables_of(network.encoder)]
    z = atomic_number(metal)
    with torch.no_grad():
        own = [table[z].clone() for table in tables]
        if shares:
            substitute(tables, {metal: shares})
        try:
            yield
        finally:
            for table, row in zip(tables, own, strict=True):
                table[z] = row


def read_as(
    predictor: GapPredictor, crystals: list[Crystal], metal: str, shares: Mapping[str, float]
) -> float:
    """Mean predicted gap, eV, with a metal read as others, see `reading_as`."""
    with reading_as(predictor, metal, shares):
        return float(predictor.estimate(crystals).gap_ev.mean())


def compared(case: Case, found: list[Crystal], predictor: GapPredictor) -> Iterator[list[object]]:
    """A row for each metal that may stand for the rare one, and two of how the model may read it."""
    rare = [written(crystal, case.framework, case.metal) for crystal in found]
    gaps = np.array([xtb_gap_ev(crystal) for crystal in rare])
    name = f"{case.metal} in {case.framework}"
    similar = substitutes_of(predictor.novelty.element_counts)[case.metal]
    for words, shares in (("now", {}), ("similar elements", similar)):
        yield [name, len(found), words, "", "", read_as(predictor, rare, case.metal, shares)]
    for other in case.others:
        others = np.array([xtb_gap_ev(written(crystal, case.framework, other)) for crystal in found])
        more = others - gaps
        apart = float(np.nanmean(more)), float(np.nanmean(np.abs(more)))
        yield [name, len(found), other, *apart, read_as(predictor, rare, case.metal, {other: 1.0})]


def main() -> None:
    """Print how far apart gaps by GFN1-xTB are, and what is predicted."""
    parser = parser_of(__doc__)
    add_table(parser)
    add_model(parser)
    parser.add_argument("--most", type=int, default=8, help="frameworks of a metal")
    parser.add_argument("--max-atoms", type=int, default=130, help="of a framework")
    options = parser.parse_args()
    rows = list(table_crystals(read_rows(options.table, options.target, ("train", "val"))))
    predictor = loaded(options.model)
    table: list[list[object]] = []
    for case in CASES:
        table += compared(case, frameworks(case.framework, rows, options.most, options.max_atoms), predictor)
    more = ["xTB gap minus its own, eV", "the same without sign"]
    print_table(["metal in frameworks of", "structures", "read as", *more, "predicted gap, eV"], table)


if __name__ == "__main__":
    main()
