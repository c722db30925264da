"""Which of several alternatives ``--disorder majority`` keeps."""

from pathlib import Path

import numpy as np
import pytest

from mofgap.crystals.bonds import bond_graph
from mofgap.crystals.cif import read_cif
from mofgap.crystals.formula import formula_sum
from mofgap.crystals.inputs import read_all
from mofgap.crystals.write import write_cif
from mofgap.shipped import shipped_folder

CIFS = Path(__file__).parents[1] / "fixtures" / "cifs"
GOOD = (CIFS / "good.cif").read_text()


FULL = GOOD.replace("_fract_z\n", "_fract_z\n_atom_site_occupancy\n").replace(" 0.00000\n", " 0.00000 1\n")


def only(entries):
    (entry,) = entries
    return entry


def majority(text):
    return only(read_cif(text, disorder="majority"))


def test_majority_keeps_the_likelier_hydrogen():
    crystal = only(read_all(CIFS / "partial_occupancy.cif", disorder="majority"))
    assert formula_sum(crystal.atomic_numbers) == "C H O2 Zn"
    assert crystal.frac_coords[-1] == pytest.approx([0.5, 0.302, 0])


def test_a_label_that_ends_in_a_question_mark_is_a_minor_position():
    """The CSD writes the minor positions of disordered atoms so, without an occupancy."""
    both = GOOD.replace("O2 O", "O2? O 0.69000 0.19000 0.00000\nO2 O")
    refused = only(read_cif(both))
    assert refused.reason.startswith("partial-occupancy: O2?: ")
    kept = majority(both)
    assert formula_sum(kept.atomic_numbers) == "C H O2 Zn"
    assert "disorder-majority: minor positions left out: O2?" in kept.warnings
    given = FULL.replace("O2 O", "O2? O 0.69000 0.19000 0.00000 1\nO2 O")
    assert formula_sum(only(read_cif(given)).atomic_numbers) == "C H O3 Zn"
    assert len(only(read_cif(GOOD.replace("O2 O", "? O"))).atomic_numbers) == 5


def test_majority_keeps_a_disorder_group_whole():
    crystal = only(read_all(CIFS / "disorder_groups.cif", disorder="majority"))
    assert formula_sum(crystal.atomic_numbers) == "C H O2 Zn"
    assert np.all(crystal.frac_coords[:, 1] == 0)


def test_neighbours_of_a_boron_cage_that_carbon_shares_both_stay():
    """Two corners of a carborane, each boron at 0.7 and carbon at 0.3; both are in rings of three."""
    corners = [np.roll((0.0, a, b * 1.618), k) for a in (-1, 1) for b in (-1, 1) for k in range(3)]
    places = 0.89 * np.array(corners) / 14.0 + 0.5
    near = np.linalg.norm(places - places[0], axis=1) * 14.0
    shared = {0, int(np.flatnonzero((near > 1.0) & (near < 2.0))[0])}
    rows = [
        (f"{element}{i}", element, *place, share)
        for i, place in enumerate(places)
        for element, share in ((("B", 0.7), ("C", 0.3)) if i in shared else (("B", 1),))
    ]
    lines = [f"_cell_length_{a} 14" for a in "abc"]
    lines += [f"_cell_angle_{a} 90" for a in ("alpha", "beta", "gamma")] + ["loop_"]
    columns = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
    lines += [f"_atom_site_{name}" for name in columns]
    lines += [" ".join(map(str, row)) for row in rows]
    assert formula_sum(majority("data_cage\n" + "\n".join(lines) + "\n").atomic_numbers) == "B12"


def test_majority_leaves_out_what_is_mostly_absent():
    water = "O3 O 0.5 0.5 0.5 {}\n"
    assert majority(FULL + water.format(0.3)).n_atoms == 5
    assert majority(FULL + water.format(0.6)).n_atoms == 6


def test_majority_keeps_one_image_across_a_mirror():
    text = FULL.replace("'x, y, z'", "'x, y, z'\n'x, y, -z'")
    crystal = majority(text.replace("H1 H 0.50000 0.30200 0.00000 1", "H1 H 0.5 0.302 0.05 0.5"))
    assert formula_sum(crystal.atomic_numbers) == "C H O2 Zn"


# A ring on a centre of inversion with zinc and a carboxylate at each end:
# label, x, y, occupancy, assembly, group.
HALF_A_LINKER = [
    ("Zn1", 0.85, 0.6714, 1, ".", "."),
    ("O1", 0.75, 0.5779, 1, ".", "."),
    ("O2", 0.75, 0.4221, 1, ".", "."),
    ("C1", 0.7064, 0.5, 1, ".", "."),
    ("C2", 0.5993, 0.5, 1, ".", "."),
    ("C3", 0.5496, 0.586, 1, ".", "."),
    ("C4", 0.4504, 0.586, 1, ".", "."),
    ("H4", 0.4164, 0.6447, 1, ".", "."),
]
AMINE = [
    ("N1", 0.5986, 0.6707, 0.5, ".", "."),
    ("H1A", 0.6289, 0.7236, 0.5, ".", "."),
    ("H1B", 0.5371, 0.6743, 0.5, ".", "."),
]
HYDROGEN = [("H3", 0.5836, 0.6447, 0.5, ".", ".")]


def planar(rows, space_group="P -1", cell_angstrom=14.0):
    """A CIF of atoms in the plane z = 1/2."""
    columns = ["label", "fract_x", "fract_y", "occupancy", "disorder_assembly", "disorder_group", "fract_z"]
    lines = [f"_cell_length_{a} {cell_angstrom}" for a in "abc"]
    lines += [f"_cell_angle_{a} 90" for a in ("alpha", "beta", "gamma")]
    lines += [f"_symmetry_space_group_name_H-M '{space_group}'", "loop_"]
    lines += [f"_atom_site_{column}" for column in columns]
    lines += [" ".join(map(str, (*row, 0.5))) for row in rows]
    return "\n".join(["data_planar", *lines, ""])


def formula_kept(rows, space_group="P -1"):
    return formula_sum(majority(planar(rows, space_group)).atomic_numbers)


@pytest.mark.parametrize("rows", [AMINE + HYDROGEN, HYDROGEN + AMINE])
def test_alternatives_of_equal_weight_share_the_images_in_any_order(rows):
    crystal = majority(planar(HALF_A_LINKER + rows))
    assert formula_sum(crystal.atomic_numbers) == "C8 H5 N O4 Zn2"
    assert not any("isolated" in text for text in crystal.warnings)


def test_a_cyanide_on_a_centre_of_inversion_has_both_ends():
    rows = [("Cu1", 0, 0.5, 1, ".", "."), *((e, 0.459, 0.5, 0.5, ".", ".") for e in ("C1", "N1"))]
    assert formula_kept(rows) == "C Cu N"


def test_one_alternative_of_an_assembly_stays_though_nothing_collides():
    """A water whose second hydrogen has two places, 1.5 Å apart."""
    rows = [
        ("Zn1", 0.5, 0.35, 1, ".", "."),
        ("O1", 0.5, 0.5, 1, ".", "."),
        ("H1", 0.435, 0.53, 1, ".", "."),
        ("H2", 0.5536, 0.5464, 0.5, "A", 1),
        ("H3", 0.5536, 0.44, 0.5, "A", 2),
    ]
    assert formula_kept(rows, "P 1") == "H2 O Zn"


def test_hydrogens_leave_with_the_atom_that_carries_them():
    rows = [
        ("Zn1", 0.5, 0.35, 1, ".", "."),
        ("O1A", 0.5, 0.5, 0.5, ".", "."),
        ("O1B", 0.53, 0.5, 0.5, ".", "."),
        ("H1B", 0.595, 0.51, 0.5, ".", "."),
    ]
    assert formula_kept(rows, "P 1") == "O Zn"


def test_a_water_keeps_a_hydrogen_that_has_two_places():
    """Water that is mostly there: it stays, though each of the places is taken less than half of the time."""
    rows = [
        ("Zn1", 0.5, 0.35, 1, ".", "."),
        ("O1", 0.5, 0.5, 0.6, ".", "."),
        ("H1", 0.435, 0.53, 0.6, ".", "."),
        ("H2", 0.5536, 0.5464, 0.3, ".", "."),
        ("H3", 0.545, 0.56, 0.3, ".", "."),
    ]
    assert formula_kept(rows, "P 1") == "H2 O Zn"


@pytest.mark.parametrize(("group", "formula"), [(-1, "C O Zn2"), (1, "C2 O2 Zn2")])
def test_images_of_a_negative_group_exclude_each_other(group, formula):
    """A C-O whose image about a centre of inversion is 1.4 Å away: no bond where SHELX has PART -1."""
    rows = [("Zn1", 0.1, 0.1, 1, ".", "."), ("C1", 0.55, 0.5, 0.5, ".", group)]
    rows.append(("O1", 0.65, 0.5, 0.5, ".", group))
    assert formula_kept(rows) == formula


@pytest.mark.parametrize(("first", "second"), [("Zn", "Co"), ("Co", "Zn")])
def test_an_element_that_majority_leaves_out_is_named(first, second):
    """Half zinc and half cobalt at one place: the file's order decides, and the row says so."""
    line = next(line for line in FULL.splitlines() if line.startswith("Zn1 Zn"))
    place = line.removeprefix("Zn1 Zn").removesuffix("1")
    mixed = FULL.replace(line, "\n".join(f"{element}1 {element}{place}0.5" for element in (first, second)))
    kept = majority(mixed)
    assert f"no atom is left of {second}1 (0.5)" in " ".join(kept.warnings)


@pytest.mark.parametrize("occupancy", [0.5, 0.75])
@pytest.mark.parametrize("name", ["UiO-66", "HKUST-1"])
def test_a_linker_that_is_mostly_there_keeps_its_oxygens(name, occupancy):
    (path,) = shipped_folder("examples").glob(f"{name}_*.cif")
    whole = only(read_cif(path.read_text()))
    bonded = bond_graph(whole)
    of_carbon = whole.atomic_numbers[bonded.bonds.second] == 6
    linker = np.isin(np.arange(whole.n_atoms), bonded.bonds.first[of_carbon]) | (whole.atomic_numbers == 6)
    lines = write_cif(whole).replace("_atom_site_fract_z\n", "_atom_site_fract_z\n_atom_site_occupancy\n")
    head, rows = lines.split("_atom_site_occupancy\n")
    shares = np.where(linker, occupancy, 1.0).tolist()
    rows = [f"{row} {share}" for row, share in zip(rows.strip().splitlines(), shares, strict=True)]
    text = "\n".join([f"{head}_atom_site_occupancy", *rows, ""])
    kept = majority(text)
    assert formula_sum(kept.atomic_numbers) == formula_sum(whole.atomic_numbers)


def test_fluorines_of_one_boron_touch_without_harm():
    """Half a tetrafluoroborate about a two-fold axis, in a group: its images share the boron."""
    at = 1.39 / np.sqrt(3) / 14
    rows = [("Zn1", 0.5, 0.0, 1, ".", "."), *((f"F{s}", at, s * at, 0.5, ".", 1) for s in (1, -1))]
    text = planar([("B1", 0, 0, 0.5, ".", 1), *rows], "P 1 1 2")
    text = "".join(
        line.removesuffix("0.5\n") + f"{0.5 + at * int(line[1:3]):.5f}\n" if line[:1] == "F" else line
        for line in text.splitlines(keepends=True)
    )
    crystal = majority(text)
    assert int((crystal.atomic_numbers == 9).sum()) == 4


@pytest.mark.parametrize("groups", [(-1, -2), (-1, 1), (1, -1)])
def test_a_negative_group_excludes_its_own_images_alone(groups):
    """Two atoms of other groups, 2.7 Å apart and not bonded, are both there."""
    rows = [("Zn1", 0.1, 0.1, 1, ".", "."), ("O1", 0.4, 0.4, 0.5, ".", groups[0])]
    rows.append(("N1", 0.593, 0.4, 0.5, ".", groups[1]))
    assert formula_kept(rows, "P 1") == "N O Zn"


def test_one_number_may_stand_for_alternatives_of_two_rings():
    """As SHELX files have it: of each ring one place stays, though the likelier ones have other numbers."""
    rows = [
        ("Zn1", 0.1, 0.1, 1, ".", "."),
        ("C1", 0.4, 0.4, 0.6, "A", 1),
        ("C2", 0.45, 0.4, 0.4, "A", 2),
        ("N3", 0.59, 0.4, 0.4, "A", 1),
        ("N4", 0.59, 0.45, 0.6, "A", 2),
    ]
    crystal = majority(planar(rows, "P 1"))
    assert formula_sum(crystal.atomic_numbers) == "C N Zn"
    assert crystal.frac_coords[crystal.atomic_numbers == 7][0] == pytest.approx([0.59, 0.45, 0.5])


def test_half_of_the_images_stay_where_an_atom_without_an_alternative_is_half_there():
    rows = [("Zn1", 0.1, 0.1, 1, ".", "."), ("O1", 0.3, 0.35, 0.5, ".", "."), ("N1", 0.3, 0.8, 0.6, ".", ".")]
    assert formula_kept(rows) == "N2 O Zn2"


def test_two_places_of_like_atoms_are_not_mixed():
    """Without another composition to reach, one of two equal places is taken in every image."""
    rows = [
        ("Zn1", 0.1, 0.1, 1, ".", "."),
        ("Cl1", 0.3, 0.3, 0.5, ".", "."),
        ("Cl2", 0.33, 0.3, 0.5, ".", "."),
    ]
    crystal = majority(planar(rows))
    places = crystal.frac_coords[crystal.atomic_numbers == 17]
    assert len(places) == 2 and (places.sum(0) % 1.0) % 1.0 == pytest.approx([0, 0, 0])


def test_minor_positions_are_not_counted_as_empty_sites():
    both = GOOD.replace("O2 O", "O2? O 0.69000 0.19000 0.00000\nO2 O")
    assert not any("empty-sites" in text for text in majority(both).warnings)


def test_half_of_the_molecules_on_a_mirror_stay_and_each_is_whole():
    rows = [
        ("Zn1", 0.3, 0.3, 1, ".", "."),
        ("N1", 0.25, 0, 0.5, ".", "."),
        ("O1", 0.3393, 0, 0.5, ".", "."),
        ("O2", 0.2054, 0.0774, 0.5, ".", "."),
    ]
    crystal = majority(planar(rows, "P 2/m"))
    assert formula_sum(crystal.atomic_numbers) == "N O3 Zn4"
    bonds = bond_graph(crystal).coordination()
    assert bonds[crystal.atomic_numbers == 7].tolist() == [3]


@pytest.mark.parametrize("occupancies", [(0.52, 0.48), (0.5, 0.5)])
def test_two_orientations_without_groups_are_not_mixed(occupancies):
    """Cyanate with either end at a place: nitrogen and oxygen are alternatives, the carbons are too."""
    a, b = occupancies
    rows = [("Zn1", 0.1, 0.1, 1, ".", ".")]
    rows += [(label, x, 0.4, a, ".", ".") for label, x in (("O1", 0.3), ("C1", 0.387), ("N1", 0.471))]
    rows += [(label, x, 0.43, b, ".", ".") for label, x in (("N2", 0.3), ("C2", 0.384), ("O2", 0.471))]
    crystal = majority(planar(rows))
    assert formula_sum(crystal.atomic_numbers) == "C2 N2 O2 Zn2"
    kept = crystal.frac_coords[crystal.atomic_numbers < 9] % 1.0
    for image in (kept[kept[:, 0] < 0.5], kept[kept[:, 0] > 0.5]):
        assert len(image) == 3 and np.ptp(image[:, 1]) < 1e-6, "one orientation"


def test_a_negative_group_that_symmetry_completes_is_a_whole_molecule():
    """Of a ring on two mirrors, half there, an image is a quarter, whatever SHELX calls it."""
    rows = [("Zn1", 0.3, 0.3, 1, ".", "."), ("N1", 0.1, 0, 0.5, ".", -1), ("C1", 0.05, 0.085, 0.5, ".", -1)]
    assert formula_kept(rows, "P m m 2") == "C4 N2 Zn4"


def test_half_of_the_oxygens_with_a_half_hydrogen_carry_it_by_turns():
    rows = [("Zn1", 0.1, 0.1, 1, ".", "."), ("O1", 0.4, 0.4, 1, ".", "."), ("H1", 0.45, 0.45, 0.5, ".", ".")]
    assert formula_kept(rows) == "H O2 Zn2"


def test_two_places_of_half_a_hydrogen_are_one_hydrogen_at_most():
    rows = [("Zn1", 0.1, 0.1, 1, ".", "."), ("O1", 0.4, 0.4, 1, ".", ".")]
    rows += [("H1", 0.45, 0.45, 0.25, ".", "."), ("H2", 0.35, 0.45, 0.25, ".", ".")]
    assert formula_kept(rows) == "H O2 Zn2"


def test_no_hydrogen_stays_without_its_carrier():
    rows = [
        ("Zn1", 0.1, 0.1, 1, ".", "."),
        ("O1", 0.4, 0.4, 0.37, ".", "."),
        ("H1", 0.45, 0.45, 0.6, ".", "."),
    ]
    assert formula_kept(rows) == "Zn2"


def test_choices_keep_a_centred_cell_centred():
    """Waters on mirrors, half there, and operations listed so that another one makes them in each copy."""
    operations = ["x,y,z", "x,-y,z", "x+1/2,-y+1/2,z+1/2", "x+1/2,y+1/2,z+1/2"]
    rows = [
        ("Zn1", 0.1, 0.1, 1, ".", "."),
        ("O1", 0.4, 0.07, 0.5, ".", "."),
        ("N1", 0.43, 0.07, 0.5, ".", "."),
    ]
    text = planar(rows).replace("_symmetry_space_group_name_H-M 'P -1'", "")
    listed = "\n".join(["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{each}'" for each in operations), ""])
    crystal = majority(text + listed)
    places = {tuple(place) for place in (crystal.frac_coords % 1.0).round(3)}
    moved = {tuple(place) for place in ((crystal.frac_coords + 0.5) % 1.0).round(3)}
    assert formula_sum(crystal.atomic_numbers) == "N2 O2 Zn4" and places == moved


def test_a_water_with_four_half_hydrogens_has_two_in_every_image():
    rows = [("Zn1", 0.1, 0.1, 1, ".", "."), ("O1", 0.4, 0.3, 1, ".", ".")]
    around = [(0.069, 0), (-0.069, 0), (0, 0.069), (0, -0.069)]
    rows += [(f"H{i}", 0.4 + x, 0.3 + y, 0.5, ".", ".") for i, (x, y) in enumerate(around, 1)]
    crystal = majority(planar(rows))
    of_oxygen = bond_graph(crystal).coordination()[crystal.atomic_numbers == 8]
    assert formula_sum(crystal.atomic_numbers) == "H4 O2 Zn2" and of_oxygen.tolist() == [2, 2]


@pytest.mark.parametrize("group", [".", 1, -1, -2])
def test_atoms_of_a_negative_group_may_be_fully_there(group):
    rows = [("Zn1", 0.1, 0.1, 1, ".", -1), ("C1", 0.4, 0.4, 1, ".", -1), ("O1", 0.7, 0.2, 0.9, ".", group)]
    assert formula_kept(rows) == "C2 O2 Zn2"
