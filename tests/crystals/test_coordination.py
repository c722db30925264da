from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mofgap.crystals.coordination import metal_coordination
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import read_all
from mofgap.shipped import shipped_folder

ROCK_SALT = Crystal(
    np.eye(3) * 4.2,
    np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], *(np.eye(3) / 2), [0.5, 0.5, 0.5]]),
    np.array([12] * 4 + [8] * 4),
)


def test_rock_salt_has_six_neighbours_however_the_cell_lies() -> None:
    assert metal_coordination(ROCK_SALT) == {(12, 6)}
    moved = replace(ROCK_SALT, frac_coords=ROCK_SALT.frac_coords + 0.37)
    assert metal_coordination(moved) == {(12, 6)}
    primitive = Crystal(
        np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 2.1, np.array([[0, 0, 0], [0.5] * 3]), np.array([12, 8])
    )
    assert metal_coordination(primitive) == {(12, 6)}


def test_a_metal_beside_a_metal_is_no_neighbour() -> None:
    """Two copper atoms 2.6 Å apart, one of them with a bromide."""
    places = np.array([[5, 5, 5], [7.6, 5, 5], [5, 7.4, 5]]) / 12
    assert metal_coordination(Crystal(np.eye(3) * 12, places, np.array([29, 29, 35]))) == {(29, 1), (29, 0)}


def test_metals_alone_or_none_have_no_neighbours() -> None:
    assert metal_coordination(replace(ROCK_SALT, atomic_numbers=np.full(8, 29))) == {(29, 0)}
    assert metal_coordination(replace(ROCK_SALT, atomic_numbers=np.full(8, 6))) == frozenset()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MOF-5_MIBQAR16", {(30, 4)}),
        ("HKUST-1_FIQCEN", {(29, 4)}),
        ("UiO-66_RUBTAK01", {(40, 8)}),
        ("ZIF-8_OFERUN", {(30, 4)}),
    ],
)
def test_well_known_frameworks(name: str, expected: set[tuple[int, int]]) -> None:
    (crystal,) = read_all(shipped_folder("examples") / f"{name}.cif")
    assert isinstance(crystal, Crystal)
    assert metal_coordination(crystal) == expected
