from dataclasses import replace

import numpy as np
import pytest

from mofgap.crystals.bonds import bond_graph
from mofgap.crystals.charges import uncompensated_charge
from mofgap.crystals.checks import NOTES, check_crystal, is_unbalanced
from mofgap.crystals.crystal import Crystal

# Magnesium formate units in a roomy cell: every valence is satisfied, no open shell. Angstrom.
EDGE = 7.0
ATOMS = [
    (12, (0.0, 0.0, 0.0)),
    (8, (1.95, 0.0, 0.35)),
    (6, (2.75, 0.0, -0.62)),
    (1, (2.35, 0.0, -1.64)),
    (8, (3.97, 0.0, -0.45)),
]


def crystal(*more, without=(), edge=EDGE):
    atoms = [atom for i, atom in enumerate(ATOMS) if i not in without] + list(more)
    cart = np.array([position for _, position in atoms], dtype=np.float64)
    return Crystal(edge * np.eye(3), cart / edge, np.array([number for number, _ in atoms], dtype=np.int64))


def names(structure):
    return [warning.split(":")[0] for warning in check_crystal(structure)]


# A chloride balances the charge and makes the electrons even.
SOUND = crystal((17, (0.0, 2.3, 0.0)))


def test_a_sound_structure_raises_no_warning():
    assert names(SOUND) == []


def test_a_bare_carbon_lacks_a_hydrogen():
    bare = replace(
        SOUND,
        frac_coords=np.delete(SOUND.frac_coords, 3, axis=0),
        atomic_numbers=np.delete(SOUND.atomic_numbers, 3),
    )
    warnings = check_crystal(bare)
    assert warnings[0].startswith("missing-hydrogens: probably at 1 atom (C 3)")


def test_linear_carbon_needs_no_hydrogen():
    cyanide = [(6, (0.0, 0.0, 2.1)), (7, (0.0, 0.0, 3.25))]
    assert "missing-hydrogens" not in names(crystal(*cyanide))
    alkyne = [(6, (0.0, 0.0, 2.1)), (6, (0.0, 0.0, 3.3))]
    assert "missing-hydrogens" in names(crystal(*alkyne))
    assert "missing-hydrogens" not in names(crystal(*alkyne, (1, (0.0, 0.0, 4.36))))


@pytest.mark.parametrize("metal", [12, 56])
def test_a_contact_to_a_cation_is_no_missing_bond(metal):
    """A nitrile with full bonds, and an acetylide between two magnesium ions."""
    reach = {12: 2.2, 56: 3.0}[metal]
    nitrile = [(6, (0.0, 0.0, 2.1)), (7, (0.0, 0.0, 3.25)), (metal, (0.0, reach, 2.1))]
    assert "missing-hydrogens" not in names(crystal(*nitrile))
    assert "missing-hydrogens" in names(crystal((6, (0.0, 0.0, 2.1)), (metal, (0.0, -reach, 2.1))))


@pytest.mark.parametrize(("distance", "expected"), [(1.65, False), (2.1, True)])
def test_water_without_hydrogens_is_told_from_an_oxo_ligand(distance, expected):
    assert ("missing-hydrogens" in names(crystal((8, (0.0, distance, 0.0))))) is expected


def test_lone_oxygen_is_isolated_and_lacks_hydrogens():
    assert {"isolated-atoms", "missing-hydrogens"} <= set(names(crystal((8, (3.5, 3.5, 3.5)))))


def test_a_proton_halfway_between_two_oxygens_is_no_ion():
    halfway = [(8, (2.25, 3.5, 3.5)), (1, (3.5, 3.5, 3.5)), (8, (4.75, 3.5, 3.5))]
    told = " ".join(check_crystal(crystal(*halfway)))
    assert "isolated-atoms: O" in told and " 1 H;" not in told
    assert "isolated-atoms: H" in " ".join(check_crystal(crystal((1, (3.5, 3.5, 3.5)))))


def test_a_halide_is_isolated_and_lacks_nothing():
    told = names(crystal((17, (3.5, 3.5, 3.5))))
    assert "isolated-atoms" in told and "missing-hydrogens" not in told
    assert "isolated-atoms" in NOTES


def test_a_water_molecule_is_a_guest():
    water = [(8, (3.0, 3.5, 3.5)), (1, (3.76, 3.5, 4.09)), (1, (2.24, 3.5, 4.09))]
    warnings = check_crystal(crystal(*water))
    assert any(warning.startswith("guest-molecules: 1 H2O") for warning in warnings)


NITRATE = [(7, (3.5, 3.5, 3.5)), (8, (4.75, 3.5, 3.5)), (8, (2.875, 4.58, 3.5)), (8, (2.875, 2.42, 3.5))]
SULFATE = [(16, (3.5, 3.5, 3.5))] + [
    (8, (3.5 + 0.86 * x, 3.5 + 0.86 * y, 3.5 + 0.86 * z))
    for x, y, z in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
]


@pytest.mark.parametrize(
    ("guest", "formula"),
    [
        (NITRATE, "1 NO3"),
        (SULFATE, "1 O4S"),
        ([(17, (3.5, 3.5, 3.5))], "1 Cl"),
        ([(55, (3.5, 3.5, 3.5))], "1 Cs"),
    ],
)
def test_ions_beside_a_framework_mean_that_it_is_charged(guest, formula):
    (text,) = (text for text in check_crystal(crystal(*guest)) if text.startswith("charged-framework"))
    assert f"likely ions: {formula};" in text and "so do not remove them" in text


def test_a_molecule_without_its_hydrogens_may_be_no_ion():
    dmf = [(7, (3.5, 3.5, 3.5)), (6, (3.5, 4.85, 3.5)), (8, (4.56, 5.46, 3.5))]
    dmf += [(6, (2.23, 2.77, 3.5)), (6, (4.77, 2.77, 3.5))]
    (text,) = (text for text in check_crystal(crystal(*dmf)) if text.startswith("charged-framework"))
    assert "1 C3NO; add the missing hydrogens first" in text


@pytest.mark.parametrize(
    "guest", [[], [(8, (3.0, 3.5, 3.5)), (1, (3.76, 3.5, 4.09)), (1, (2.24, 3.5, 4.09))]]
)
def test_neutral_guests_do_not(guest):
    assert "charged-framework" not in names(crystal(*guest))


def test_colliding_atoms_overlap():
    assert "overlapping-atoms" in names(crystal((8, (2.75, 0.7, -0.62))))


@pytest.mark.parametrize(("distance", "expected"), [(0.93, True), (1.05, False)])
def test_a_split_atom_overlaps_where_no_bond_is_so_short(distance, expected):
    """Two oxygens; the triple bond of nitrogen is the shortest of two non-metals in QMOF, 1.1 angstrom."""
    pair = [(8, (3.5, 3.5, 3.5)), (8, (3.5, 3.5 + distance, 3.5))]
    assert ("overlapping-atoms" in names(crystal(*pair))) is expected


def test_hydrogens_on_two_sites_overlap():
    assert "overlapping-atoms" in names(crystal((1, (2.35, 0.85, -1.5))))


def test_a_doubled_hydrogen_is_no_hydrogen_molecule():
    carbon = (6, (3.5, 3.5, 3.5))
    doubled = [(1, (4.53, 3.5 + y, 3.5)) for y in (0.324, -0.324)]  # 0.65 angstrom apart
    assert "overlapping-atoms" in names(crystal(carbon, *doubled))
    for metal in ([], [(29, (3.5, 3.87, 1.8))]):  # alone, and side-on on copper
        assert "overlapping-atoms" not in names(crystal((1, (3.5, 3.5, 3.5)), (1, (3.5, 4.24, 3.5)), *metal))


def test_hydrogen_between_two_atoms_has_odd_valence():
    assert "odd-valence" in names(crystal((6, (2.0, 0.0, -2.7))))


def test_two_waters_in_one_place_are_unresolved_disorder():
    """Oxygens 1.22 angstrom apart, which make no cation of two charges."""
    water = [(8, (0, 0, 0)), (1, (-0.5, 0.8, 0)), (1, (-0.5, -0.8, 0))]
    pair = [(z, (3.5 + side * (0.61 - x), 3.5 + y, 3.5)) for side in (1, -1) for z, (x, y, _) in water]
    assert "odd-valence" in names(crystal(*pair))
    assert charge(pair, far(11, 17, 17, 17, 17)) == 0  # nothing is known of it


@pytest.mark.parametrize(("number", "name"), [(12, "no-metal"), (6, "no-carbon")])
def test_what_makes_no_framework_is_named(number, name):
    structure = replace(
        SOUND, atomic_numbers=np.where(SOUND.atomic_numbers == number, 14, SOUND.atomic_numbers)
    )
    assert name in names(structure)


def test_odd_electrons_are_reported_unless_a_metal_may_hold_them():
    assert "odd-electrons" in names(crystal())
    copper = replace(crystal(), atomic_numbers=np.array([29, 8, 6, 1, 8]))
    assert names(copper) == ["open-shell-metal"]


# Ligands around a closed-shell metal, whose charge it can balance or not: element and place in angstrom.
TETRAHEDRON = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
PYRIDINE = [
    (7 if i == 0 else 6, (1.39 * np.cos(i * np.pi / 3), 1.39 * np.sin(i * np.pi / 3), 0.0)) for i in range(6)
]
RING_HYDROGENS = [(1, (2.48 * np.cos(i * np.pi / 3), 2.48 * np.sin(i * np.pi / 3), 0.0)) for i in range(1, 6)]
PROTON = [(1, (2.42, 0.0, 0.0))]
# The ring of pyridine that 4,4'-bipyridine has more, on the other side of the first.
SECOND_RING = [
    (z, (-4.26 - x, y, 0.0)) for z, (x, y, _) in (*PYRIDINE, *RING_HYDROGENS[:2], *RING_HYDROGENS[3:])
]


# Two pyridines on the carbons of a tetrazine, N=N of which are its shortest bonds.
PYRIDYL = [(z, (4.15 + x, y, 0.0)) for z, (x, y, _) in (*PYRIDINE, *RING_HYDROGENS[:2], *RING_HYDROGENS[3:])]
TETRAZINE = [(6, (1.28, 0.0, 0.0)), (7, (0.63, 1.16, 0.0)), (7, (0.63, -1.16, 0.0))]
DIPYRIDYL_TETRAZINE = [(z, (side * x, y, 0.0)) for side in (1, -1) for z, (x, y, _) in TETRAZINE + PYRIDYL]


# Two pyrazolates on opposite carbons of benzene: five-membered rings, which stay anions.
PENTAGON = [(-1.157 * np.cos(k * np.pi / 2.5), 1.157 * np.sin(k * np.pi / 2.5)) for k in range(5)]
PYRAZOLATE = [(z, (4.017 + x, y, 0.0)) for z, (x, y) in zip((6, 6, 7, 7, 6), PENTAGON, strict=True)]
PYRAZOLATE += [(1, (4.017 + 1.933 * x, 1.933 * y, 0.0)) for x, y in (PENTAGON[1], PENTAGON[4])]
BENZENE = [(6, place) for _, place in PYRIDINE] + [RING_HYDROGENS[i] for i in (0, 1, 3, 4)]
# Two tetrazolates with a bond between their carbons that is shorter than those of the rings.
BITETRAZOLATE = [
    (z, (side * (1.827 + x), y, 0.0))
    for side in (1, -1)
    for z, (x, y) in zip((6, 7, 7, 7, 7), PENTAGON, strict=True)
]
BIPYRAZOLATE = BENZENE + [(z, (side * x, y, 0.0)) for side in (1, -1) for z, (x, y, _) in PYRAZOLATE]


def methyls(number, axes):
    """An atom with methyl groups along some diagonals of a cube."""
    atoms = [(number, (0, 0, 0))]
    for axis in np.array(axes):
        ends = [end for end in np.array(TETRAHEDRON) if tuple(end) != tuple(axis)]
        atoms += [(6, 1.05 * axis), *[(1, 1.05 * axis - 0.63 * end) for end in ends]]
    return atoms


def charge(*parts):
    """Negative charge that a metal of the given kind cannot balance, in a roomy cell."""
    atoms = [atom for part in parts for atom in part]
    cart = np.array([place for _, place in atoms]) + 12.0
    structure = Crystal(24.0 * np.eye(3), cart / 24.0, np.array([z for z, _ in atoms], dtype=np.int64))
    return uncompensated_charge(bond_graph(structure))


def far(*numbers):
    """Atoms far from everything."""
    return [(z, (-10.0, 4.0 * i - 8.0, 8.0)) for i, z in enumerate(numbers)]


@pytest.mark.parametrize(
    ("ligand", "expected"),
    [
        (
            [(7, (0, 0, 0)), *[(8, (1.24 * np.cos(a), 1.24 * np.sin(a), 0)) for a in (0, 2.0944, 4.1888)]],
            1,
        ),  # NO3-
        ([(16, (0, 0, 0)), *[(8, (0.86 * x, 0.86 * y, 0.86 * z)) for x, y, z in TETRAHEDRON]], 2),  # SO4 2-
        ([(5, (0, 0, 0)), *[(9, (0.82 * x, 0.82 * y, 0.82 * z)) for x, y, z in TETRAHEDRON]], 1),  # BF4-
        ([(8, (0, 0, 0)), (1, (0.99, 0, 0))], 1),  # OH-
        ([(8, (0, 0, 0)), (1, (0.76, 0.59, 0)), (1, (-0.76, 0.59, 0))], 0),  # H2O
        ([(6, (0, 0, 0)), (7, (1.16, 0, 0))], 1),  # CN-
        ([(6, (0, 0, 0)), (8, (1.14, 0, 0))], 0),  # CO
        ([(7, (-1.18, 0, 0)), (7, (0, 0, 0)), (7, (1.18, 0, 0))], 1),  # N3-
        ([(7, (0, 0, 0)), *[(1, (0.59 * x, 0.59 * y, 0.59 * z)) for x, y, z in TETRAHEDRON]], -1),  # NH4+
        ([*PYRIDINE, *RING_HYDROGENS], 0),
        ([*PYRIDINE, *RING_HYDROGENS, *PROTON], -1),  # pyridinium
        ([*PYRIDINE, *RING_HYDROGENS[:2], *RING_HYDROGENS[3:], *PROTON, *SECOND_RING], -1),  # bipyridinium
        ([*PYRIDINE, *RING_HYDROGENS[:2], (8, (-2.62, 0, 0)), *RING_HYDROGENS[3:], *PROTON], 0),  # pyridone
        (DIPYRIDYL_TETRAZINE, 0),
        # Tetramethylphosphonium and trimethylsulfonium.
        (methyls(15, TETRAHEDRON), -1),
        (methyls(16, TETRAHEDRON[:3]), -1),
        (BIPYRAZOLATE, 2),
        (BITETRAZOLATE, 2),
        ([(17, (0, 0, 0.3)), *[(8, (1.4 * np.cos(a), 1.4 * np.sin(a), 0)) for a in (0, 2.0944, 4.1888)]], 1),
        ([(8, (-1.5, 0, 0)), (1, (0, 0, 0)), (8, (1.5, 0, 0))], 3),  # a proton far from two oxides
    ],
)
def test_the_charge_of_a_ligand_is_that_of_its_lewis_structure(ligand, expected):
    # Sodium balances one charge; four chlorides leave three, and the ligand adds its own.
    assert charge(ligand, far(11, 17, 17, 17, 17)) == 3 + expected


@pytest.mark.parametrize(
    ("edges", "atoms"),
    [
        ((1.6, 4, 4), [(5, (0, 0, 0)), (3, (0.8, 2, 2))]),  # a chain of boron
        ((1.4, 9, 9), [(6, (0, 0, 0)), (1, (0, 1.1, 0)), (30, (0.7, 4.5, 4.5))]),
    ],
)
def test_an_atom_that_is_its_own_neighbour_ends(edges, atoms):
    """It has an open valence, and nothing but its own image to share it with."""
    numbers, positions = zip(*atoms, strict=True)
    check_crystal(Crystal(np.diag(edges).astype(float), np.array(positions) / edges, np.array(numbers)))


def test_a_boron_cluster_has_no_lewis_structure():
    corners = [(0, a, b * 1.618) for a in (-1, 1) for b in (-1, 1)]
    icosahedron = [tuple(0.89 * np.roll(corner, k)) for corner in corners for k in range(3)]
    assert charge([(5, place) for place in icosahedron], far(11)) == 0


def test_a_hydride_on_a_metal_is_no_proton():
    assert charge([(11, (0, 0, 0)), (1, (1.9, 0, 0))], far(17)) == 1


def test_charges_that_do_not_add_up_are_found():
    assert not is_unbalanced(SOUND)
    assert is_unbalanced(crystal())  # an odd number of electrons
    assert is_unbalanced(crystal((17, (5.2, 3.5, 3.5)), (17, (1.0, 3.5, 3.5)), (17, (3.2, 5.5, 0.9))))


def test_a_missing_proton_is_told_by_the_charge():
    assert "missing-charge" not in names(crystal((17, (5.2, 3.5, 3.5))))
    assert "missing-charge" in names(
        crystal((17, (5.2, 3.5, 3.5)), (17, (1.0, 3.5, 3.5)), (17, (3.2, 5.5, 0.9)))
    )


def test_nickel_balances_two_charges_at_most():
    assert charge(far(28, 17, 17)) == 0
    assert charge(far(28, 17, 17, 17)) == 1


def test_chromium_balances_three_charges_but_in_chromates():
    assert charge(far(24, 17, 17, 17)) == 0
    assert charge(far(24, 17, 17, 17, 17)) == 1
    chromate = [(24, (0, 0, 0)), *[(8, (0.95 * x, 0.95 * y, 0.95 * z)) for x, y, z in TETRAHEDRON]]
    assert charge(chromate, far(19, 19)) == 0


@pytest.mark.parametrize(("metal", "lower"), [(50, 2), (51, 3), (81, 1), (82, 2)])
def test_a_metal_without_near_ligands_keeps_its_lone_pair(metal, lower):
    assert charge(far(metal, *[17] * lower)) == 0
    assert charge(far(metal, *[17] * (lower + 1))) == 1


def test_tin_with_four_bonds_balances_four_charges():
    chlorides = [(17, (1.39 * x, 1.39 * y, 1.39 * z)) for x, y, z in TETRAHEDRON]  # 2.4 angstrom away
    assert charge([(50, (0, 0, 0)), *chlorides]) == 0
    far_off = [(17, (1.6 * x, 1.6 * y, 1.6 * z)) for x, y, z in TETRAHEDRON]  # 2.8 angstrom, as in Sn(II)
    assert charge([(50, (0, 0, 0)), *far_off]) == 2


def test_a_metal_of_unknown_charge_balances_everything():
    assert charge(far(100, 17, 17, 17, 17)) == 0


def test_an_empty_cell_has_an_odd_density():
    assert "odd-density" in names(crystal(edge=20.0))


def test_warnings_do_not_depend_on_the_choice_of_cell():
    structure = crystal((8, (3.5, 3.5, 3.5)), without=(3,))
    shifted = replace(structure, frac_coords=structure.frac_coords + np.array([0.37, 1.2, -2.9]))
    assert check_crystal(shifted) == check_crystal(structure)


def test_single_precision_is_accepted():
    single = replace(
        SOUND, cell=SOUND.cell.astype(np.float32), frac_coords=SOUND.frac_coords.astype(np.float32)
    )
    assert names(single) == []
