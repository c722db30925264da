"""Neighbours of an ordered atom that share places."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mofgap.crystals.cif import read_cif
from mofgap.crystals.formula import formula_sum

CELL_ANGSTROM = 20.0


def one(entries):
    (entry,) = entries
    return entry


def cubic(atoms, space_group, cell_angstrom=CELL_ANGSTROM):
    """A CIF of a cubic cell with atoms: label, x, y, z in Å, occupancy and disorder group."""
    rows = [
        (label, *(np.array(place) / cell_angstrom).round(5), occupancy, group)
        for label, *place, occupancy, group in atoms
    ]
    columns = ["label", "fract_x", "fract_y", "fract_z", "occupancy", "disorder_group"]
    lines = [f"_cell_length_{a} {cell_angstrom}" for a in "abc"]
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


def around(centre: str, element: str, places, rows=(), space_group="P 1", order=None) -> str:
    """A CIF of partial sites around an atom in the middle of a cell: (x, y, z) in Å, occupancy, group."""
    middle = np.full(3, 6.0)
    whole = [("Zn1", 0, 0, 0), ("C8", 2.4, 1.2, 1.2), (f"{centre}9", *middle), *rows]
    own = [
        (f"{element}{i}", *(middle + place), occupancy, group)
        for i, (place, occupancy, group) in enumerate(places)
    ]
    atoms = [(*each, 1, ".") for each in whole] + (own if order is None else [own[i] for i in order])
    return cubic(atoms, space_group, 12.0)


TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)


@pytest.mark.parametrize(("centre", "element", "angstrom"), [("B", "F", 1.39), ("Cl", "O", 1.44)])
@pytest.mark.parametrize(("groups", "space_group"), [((1, 2), "P 1"), ((".", "."), "P 1"), ((-1,), "P -1")])
def test_an_anion_in_two_orientations_is_one_tetrahedron(centre, element, angstrom, groups, space_group):
    both = zip((1, -1), groups, strict=False)
    places = [(sign * angstrom * at, 0.5, group) for sign, group in both for at in TETRAHEDRON]
    crystal = one(read_cif(around(centre, element, places, space_group=space_group), disorder="majority"))
    numbers = crystal.atomic_numbers
    kept = (crystal.frac_coords[numbers == {"F": 9, "O": 8}[element]] - 0.5) @ crystal.cell
    assert len(kept) == 4 and np.abs(kept.sum(0)).max() < 0.01, "the corners of a tetrahedron"


def test_an_anion_turned_by_any_angle_is_one_tetrahedron_in_any_order():
    rng = np.random.default_rng(0)
    for angle in (25, 50, 65):
        turned = TETRAHEDRON @ Rotation.from_rotvec([0, 0, angle], degrees=True).as_matrix()
        places = [(1.44 * at, 0.5, ".") for at in np.concatenate([TETRAHEDRON, turned])]
        for _ in range(3):
            text = around("Cl", "O", places, order=rng.permutation(8))
            crystal = one(read_cif(text, disorder="majority"))
            kept = (crystal.frac_coords[crystal.atomic_numbers == 8] - 0.5) @ crystal.cell
            assert len(kept) == 4 and np.abs(kept.sum(0)).max() < 0.01


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (0, 3, 1, 4, 2, 5), (0, 3, 4, 1, 5, 2)])
@pytest.mark.parametrize("second", [0.5, 0.42])
def test_a_methyl_group_has_three_hydrogens_in_any_order(order, second):
    angles = np.radians(60 * np.arange(6))
    turned = [(0.95 * np.cos(a), 0.95 * np.sin(a), 0.34) for a in angles]
    places = [(at, (1 - second, second)[i % 2], ".") for i, at in enumerate(turned)]
    rows = [("N1", 6, 6, 6 - 1.47)]
    crystal = one(read_cif(around("C", "H", places, rows, order=order), disorder="majority"))
    kept = (crystal.frac_coords[crystal.atomic_numbers == 1] - 0.5) @ crystal.cell
    assert len(kept) == 3 and np.abs(kept[:, :2].sum(0)).max() < 0.01, "every second one"


@pytest.mark.parametrize("apart", [0.9, 1.2, 1.5, 1.9])
@pytest.mark.parametrize("on_metal", [True, False])
def test_two_half_waters_beside_each_other_are_one(apart, on_metal):
    if apart > 1.6 and not on_metal:
        return  # nothing tells them from two waters
    along = np.sqrt(2.15**2 - (apart / 2) ** 2) if on_metal else 4.0
    places = [((along, sign * apart / 2, 0), 0.5, ".") for sign in (1, -1)]
    crystal = one(read_cif(around("Cu", "O", places), disorder="majority"))
    assert formula_sum(crystal.atomic_numbers) == "C Cu O Zn"


def test_neighbours_that_are_there_together_stay():
    """Four of four places are occupied most of the time, and so are two on opposite sides of a metal.

    So are both oxygens of a peroxide that lies side-on on uranium.
    """
    for centre, places in (("B", 1.39 * TETRAHEDRON), ("Cu", np.array([[2.1, 0, 0], [-2.1, 0, 0]]))):
        rows = [(at, 0.5 if centre == "Cu" else 0.8, ".") for at in places]
        crystal = one(read_cif(around(centre, "F", rows), disorder="majority"))
        assert int((crystal.atomic_numbers == 9).sum()) == len(places)
    peroxide = [((2.2, side * 0.73, 0), 0.8, ".") for side in (1, -1)]
    crystal = one(read_cif(around("U", "O", peroxide), disorder="majority"))
    assert int((crystal.atomic_numbers == 8).sum()) == 2
