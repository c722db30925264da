"""An attribution as a table, an extended XYZ and a CIF."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from mofgap.crystals.convert import to_ase
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import symbol_of
from mofgap.crystals.write import write_cif
from mofgap.gap.attribution import Attribution
from mofgap.uncertainty.columns import Floats

if TYPE_CHECKING:
    import pandas as pd


COLUMNS = ("gap_share_ev", "variance_fraction")
"""Per-atom columns of every file, see `Attribution`; the second only for a Bayesian model."""


def shares(found: Attribution) -> dict[str, Floats]:
    """Columns of the files by name, each (n_atoms,)."""
    columns: dict[str, Floats] = {name: getattr(found, name) for name in COLUMNS}
    return {name: values for name, values in columns.items() if np.isfinite(values).all()}


def atom_table(crystal: Crystal, found: Attribution) -> pd.DataFrame:
    """One row per atom, in the order of the file: ``index`` from 1, ``element`` and the `shares`."""
    import pandas as pd

    symbols = list(map(symbol_of, crystal.atomic_numbers))
    return pd.DataFrame({"index": range(1, crystal.n_atoms + 1), "element": symbols, **shares(found)})


def element_table(atoms: pd.DataFrame) -> pd.DataFrame:
    """Shares summed over the atoms of each element, and how many atoms it has; largest gap share first."""
    grouped = atoms.drop(columns="index").groupby("element")
    sums = grouped.sum()
    sums.insert(0, "n_atoms", grouped.size())
    return sums.sort_values("gap_share_ev", key=abs, ascending=False, kind="stable").reset_index()


def extended_xyz(crystal: Crystal, found: Attribution, level_of_theory: str) -> str:
    """Text of an extended XYZ with a column for each of the `shares`; OVITO colours atoms by any of them."""
    from ase.io import write

    atoms = to_ase(crystal)
    for name, values in shares(found).items():
        atoms.set_array(name, values)
    atoms.info |= _whole(found) | {"level_of_theory": level_of_theory}
    text = io.StringIO()
    write(text, atoms, format="extxyz")
    return text.getvalue()


def cif_with_shares(crystal: Crystal, found: Attribution, level_of_theory: str) -> str:
    """Text of a CIF in P1 with a tag ``_atom_site_mofgap_...`` for each of the `shares`."""
    columns = {f"_atom_site_mofgap_{name}": values.tolist() for name, values in shares(found).items()}
    header = {f"_mofgap_{name}": f"{value:.6g}" for name, value in _whole(found).items()}
    return write_cif(crystal, header | {"_mofgap_level_of_theory": level_of_theory}, columns)


def _whole(found: Attribution) -> dict[str, float]:
    """The gap in eV, the gap before negative values become zero, the baseline, and the variance in eV²."""
    whole = {"gap_ev": max(found.gap_ev, 0.0), "gap_before_cut_ev": found.gap_ev}
    whole["gap_reference_ev"] = found.reference_ev
    if "variance_fraction" in shares(found):
        whole["gap_variance_ev2"] = found.variance_ev2
    return whole
