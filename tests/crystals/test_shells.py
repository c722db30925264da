"""Neighbours of an ordered atom that share places."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mofgap.crystals.cif import read_cif
from mofgap.crystals.formula import formula_sum

CELL_ANGSTROM = 20.0


def cubic(atoms, space_group):
    """A CIF of a cubic cell with atoms: label, x, y, z in Å, occupancy and disorder group."""
    rows = [
        (label, *(np.array(place) / CELL_ANGSTROM).round(5), occupancy, group)
        for label, *place, occupancy, group in atoms
    ]
    columns = ["label", "fract_x", "fract_y", "fract_z", "occupancy", "disorder_group"]
    lines = [f"_cell_length_{a} {CELL_ANGSTROM}" for a in "abc"]
    lines += [f"_cell_angle_{a} 90" for a in ("alpha", "beta", "gamma")]
    lines += [f"_symmetry_space_group_name_H-M '{space_group}'", "loop_"]
    lines += [f"_atom_site_{column}" for column in columns]
    return "\n".join(["data_cubic", *lines, *(" ".join(map(str, row)) for row in rows), ""])


def zirconium_clusters(occupancies, groups, space_group="I m m m"):
    """A CIF of octahedra of zirconium; on each face is an oxide or, farther out, a hydroxide."""
    atoms = [(f"Zr{i}", *place, 1, ".") for i, place in enumerate(2.5 * np.eye(3), 1)]
    corner = np.ones(3)
    atoms.append(("O1", *(1.15 * corner), occupancies[0], groups[0]))
    atoms += [
        (label, *(angstrom * corner), occupancies[1], groups[1])
        for label, angstrom in (("O2", 1.3), ("H2", 1.86))
    ]
    return cubic(atoms, space_group)


@pytest.mark.parametrize("groups", [(".", "."), (1, 2), (3, 4)])
@pytest.mark.parametrize("occupancies", [(0.5, 0.5), (0.507, 0.493)])
def test_every_cluster_has_four_oxides_and_four_hydroxides_by_turns(occupancies, groups):
    (crystal,) = read_cif(zirconium_clusters(occupancies, groups), disorder="majority")
    assert formula_sum(crystal.atomic_numbers) == "H8 O16 Zr12"
    hydrogens = crystal.frac_coords[crystal.atomic_numbers == 1]
    from_origin = np.linalg.norm(hydrogens - np.rint(hydrogens), axis=1) * CELL_ANGSTROM
    assert int((from_origin < 5).sum()) == 4, "of eight, four are around the origin"
    near = hydrogens[from_origin < 5]
    directions = np.sign(near - np.rint(near))
    assert np.abs(directions.sum(0)).max() == 0, "the corners of a tetrahedron"


def test_chlorides_around_a_metal_are_not_bonded_to_each_other():
    """In two orientations, listed in an order in which nearest ones come first."""
    turned = [Rotation.from_rotvec([0, 0, 90 * i + 28 * j], degrees=True) for i in range(4) for j in (0, 1)]
    places = [("Cu1", *np.zeros(3), 1, ".")]
    places += [(f"Cl{i}", *each.apply([2.25, 0, 0]), 0.5, ".") for i, each in enumerate(turned, 1)]
    for seed in range(4):
        rows = [places[i] for i in np.random.default_rng(seed).permutation(len(places))]
        (crystal,) = read_cif(cubic(rows, "P 1"), disorder="majority")
        assert formula_sum(crystal.atomic_numbers) == "Cl4 Cu"
        chlorides = crystal.cart_coords[crystal.atomic_numbers == 17]
        apart = np.linalg.norm(chlorides[:, None] - chlorides[None], axis=2) + 99 * np.eye(4)
        assert apart.min() > 3.0
