"""GFN1-xTB of crystals at the Gamma point, by the package ``tblite``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.units import Bohr, Hartree

from mofgap.crystals.crystal import Crystal
from mofgap.uncertainty.columns import Floats


@dataclass(frozen=True, eq=False)
class SinglePoint:
    """What GFN1-xTB gives for a crystal.

    Attributes:
        energy_ev: (n_orbitals,) energies, ascending, eV.
        occupation: (n_orbitals,) electrons of each.
        charge_e: (n_atoms,) Mulliken charges, e.
        bond_order: (n_atoms,) sums of bond orders; meant for an even number of electrons.
    """

    energy_ev: Floats
    occupation: Floats
    charge_e: Floats
    bond_order: Floats

    @property
    def gap_ev(self) -> float:
        """Gap of as many orbitals as there are pairs of electrons, eV."""
        n_filled = round(float(self.occupation.sum()) / 2)
        return float(self.energy_ev[n_filled] - self.energy_ev[n_filled - 1])


def single_point(crystal: Crystal) -> SinglePoint | None:
    """GFN1-xTB of a crystal; None where it does not converge, or has no parameters of an element (Z > 86)."""
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    places, cell = crystal.cart_coords / Bohr, crystal.cell / Bohr
    try:
        calculator = Calculator(
            "GFN1-xTB", crystal.atomic_numbers, places, lattice=cell, periodic=np.full(3, True)
        )
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
    except TBLiteRuntimeError:
        return None
    orders = np.asarray(result.get("bond-orders"))[..., 0]  # of the first spin channel
    return SinglePoint(
        np.asarray(result.get("orbital-energies")) * Hartree,
        np.asarray(result.get("orbital-occupations")),
        np.asarray(result.get("charges")),
        orders.sum(1),
    )
