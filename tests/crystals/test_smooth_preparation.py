"""Preparation has no step: where a file changes by ever less, the prepared structure does too."""

from __future__ import annotations

import numpy as np
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.hydrogen_lengths import LENGTHS_ANGSTROM, TOLERANCE_ANGSTROM
from mofgap.crystals.prepare.steps import prepare

EDGE = 9.0
STEP_ANGSTROM = 1e-6


def formate(hydrogen_angstrom: float) -> Crystal:
    """Magnesium formate with a carbon-hydrogen bond of so many angstrom."""
    carbon, bond = np.array([2.75, 0.0, -0.62]), np.array([-0.35, 0.0, -0.88])
    places = [[0, 0, 0], [1.95, 0, 0.35], carbon, [3.97, 0, -0.45]]
    places.append(carbon + hydrogen_angstrom * bond / np.linalg.norm(bond))
    return Crystal(EDGE * np.eye(3), np.array(places) / EDGE, np.array([12, 8, 6, 8, 1]))


@pytest.mark.parametrize("below", [0.0, 0.004, 0.01, 0.025, 0.05])
def test_a_bond_to_hydrogen_that_becomes_too_short_changes_no_place_at_once(below: float) -> None:
    length = LENGTHS_ANGSTROM[6] - TOLERANCE_ANGSTROM - below
    longer, shorter = (prepare(formate(length + d)) for d in (STEP_ANGSTROM / 2, -STEP_ANGSTROM / 2))
    moved = np.linalg.norm(longer.cart_coords - shorter.cart_coords, axis=1)
    assert moved.max() < 10 * STEP_ANGSTROM
    assert abs(longer.experimental - shorter.experimental) < 1e-3


@pytest.mark.parametrize("length", [0.82, 0.93, 0.98, 1.0])
def test_bonds_as_x_rays_see_them_are_stretched_wholly(length: float) -> None:
    found = prepare(formate(length))
    bond = found.cart_coords[4] - found.cart_coords[2]
    assert np.linalg.norm(bond) == pytest.approx(LENGTHS_ANGSTROM[6], abs=1e-9)
    assert found.experimental == 1
