"""GFN1-xTB of crystals at the Gamma point, by the package ``tblite``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.units import Bohr, Hartree
from numpy.typing import NDArray

from mofgap.crystals.crystal import Crystal

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SinglePoint:
    """What GFN1-xTB gives for a crystal.

    Attributes:
        gap_ev: Gap at the Gamma point, eV.
        charge_e: (n_atoms,) Mulliken charges, e.
        bond_order: (n_atoms,) sums of bond orders; meant for an even number of electrons.
    """

    gap_ev: float
    charge_e: Floats
    bond_order: Floats


def single_point(crystal: Crystal) -> SinglePoint | None:
    """GFN1-xTB of a crystal; None where it does not converge."""
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    places, cell = crystal.cart_coords / Bohr, crystal.cell / Bohr
    calculator = Calculator(
        "GFN1-xTB", crystal.atomic_numbers, places, lattice=cell, periodic=np.full(3, True)
    )
    calculator.set("verbosity", 0)
    try:
        result = calculator.singlepoint()
    except TBLiteRuntimeError:
        return None
    energy, filled = result.get("orbital-energies"), result.get("orbital-occupations") > 1
    gap_ev = float(energy[~filled].min() - energy[filled].max()) * Hartree
    orders = np.asarray(result.get("bond-orders"))[..., 0]  # of the first spin channel
    return SinglePoint(gap_ev, np.asarray(result.get("charges")), orders.sum(1))
