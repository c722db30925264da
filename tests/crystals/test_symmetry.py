import io
import warnings
from contextlib import nullcontext
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.io.cif import CifParser

from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.reasons import StructureError
from mofgap.crystals.symmetry import parse_operation
from mofgap.crystals.unit_cell import check_apart

GOOD = (Path(__file__).parents[1] / "fixtures" / "cifs" / "good.cif").read_text()

CELLS = {
    "triclinic": (15, 16, 17, 80, 95, 105),
    "monoclinic": (15, 16, 17, 90, 105, 90),
    "orthorhombic": (15, 16, 17, 90, 90, 90),
    "tetragonal": (16, 16, 17, 90, 90, 90),
    "trigonal": (18, 18, 17, 90, 90, 120),
    "hexagonal": (18, 18, 17, 90, 90, 120),
    "cubic": (17, 17, 17, 90, 90, 90),
}
# The standard setting of each of the 230 space groups, rhombohedral ones on hexagonal axes.
GROUPS = [gemmi.find_spacegroup_by_number(number) for number in range(1, 231)]
TWENTY_FOURTHS = st.tuples(*[st.integers(0, 23)] * 3)


def cif_text(group, position, named):
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    cell = CELLS[group.crystal_system_str()]
    lines = ["data_x", *(f"_cell_{tag} {value}" for tag, value in zip(tags, cell, strict=True))]
    if named:
        lines += [f"_symmetry_space_group_name_Hall '{group.hall}'"]
    else:
        lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{op.triplet()}'" for op in group.operations())]
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"]
    lines += ["Zn1 Zn " + " ".join(f"{x / 24:.6f}" for x in position)]
    return "\n".join(lines) + "\n"


def same_positions(first, second):
    difference = first[:, None] - second[None, :]
    distance = np.abs(difference - np.round(difference)).max(axis=2)
    nearest = distance.argmin(axis=1)
    return len(first) == len(second) == len(set(nearest)) and distance.min(axis=1).max() < 1e-4


@settings(max_examples=40)
@given(st.sampled_from(GROUPS), TWENTY_FOURTHS)
def test_expansion_agrees_with_pymatgen(group, position):
    text = cif_text(group, position, named=False)
    (crystal,) = read_cif(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = CifParser(io.StringIO(text), site_tolerance=1e-3).parse_structures(primitive=False)[0]
    assert crystal.warnings == ()
    assert same_positions(crystal.frac_coords, reference.frac_coords)


@settings(max_examples=60)
@given(st.sampled_from(GROUPS), TWENTY_FOURTHS)
def test_names_and_operators_give_the_same_atoms(group, position):
    (listed,) = read_cif(cif_text(group, position, named=False))
    (named,) = read_cif(cif_text(group, position, named=True))
    assert same_positions(listed.frac_coords, named.frac_coords)


@settings(max_examples=60)
@given(st.sampled_from(GROUPS), TWENTY_FOURTHS)
def test_every_image_of_every_atom_is_an_atom(group, position):
    (crystal,) = read_cif(cif_text(group, position, named=False))
    for op in group.operations():
        images = np.array([op.apply_to_xyz(xyz) for xyz in crystal.frac_coords.tolist()])
        assert same_positions(images, crystal.frac_coords)


@pytest.mark.parametrize("name", ["P 21/c", "P2(1)/c", "P21/c", "P 1 21/c 1", "p21/c"])
def test_spellings_of_a_name(name):
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    hall = gemmi.SpaceGroup("P 21/c").hall
    text = text.replace(
        f"_symmetry_space_group_name_Hall '{hall}'", f"_symmetry_space_group_name_H-M '{name}'"
    )
    (crystal,) = read_cif(text)
    assert (crystal.n_atoms, crystal.warnings) == (4, ())


@pytest.mark.parametrize(("number", "n_atoms", "warned"), [(1, 1, False), (2, 2, False), (14, 4, True)])
def test_a_number_alone_is_taken_in_its_standard_setting(number, n_atoms, warned):
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    line = next(line for line in text.splitlines() if "Hall" in line)
    (crystal,) = read_cif(text.replace(line, f"_symmetry_Int_Tables_number {number}"))
    assert crystal.n_atoms == n_atoms
    assert any(text.startswith("origin-choice") for text in crystal.warnings) is warned


@pytest.mark.parametrize(
    ("cell", "number", "name", "position", "vague"),
    [
        ("5.43 5.43 5.43 90 90 90", 227, "F d -3 m", "0.125 0.125 0.125", True),
        ("5.13 5.13 5.13 55.28 55.28 55.28", 167, "R -3 c", "0.3523 0.3523 0.3523", False),
        ("4.76 4.76 12.99 90 90 120", 167, "R -3 c", "0 0 0.3523", False),
        ("4.2 4.2 4.2 90 90 90", 225, "F m -3 m", "0 0 0", False),
        ("3.2 3.2 5.2 90 90 120", 194, "P 63/m m c", "0.33333 0.66667 0.25", False),
    ],
)
def test_a_number_is_read_as_the_name_of_its_group(cell, number, name, position, vague):
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    head = "".join(f"_cell_{tag} {value}\n" for tag, value in zip(tags, cell.split(), strict=True))
    loop = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    both = [
        read_cif(f"data_x\n{head}{group}\n{loop}Zn1 {position}\n")[0]
        for group in (f"_space_group_name_H-M_alt '{name}'", f"_space_group_IT_number {number}")
    ]
    assert same_positions(both[0].frac_coords, both[1].frac_coords)
    assert any(text.startswith("origin-choice") for text in both[1].warnings) is vague


@pytest.mark.parametrize(
    ("name", "n_atoms"), [("F d -3 m S", 8), ("F d -3 m Z", 16), ("F d -3 m :1 (#227)", 8), ("P 1 (#1)", 1)]
)
def test_names_as_databases_write_them(name, n_atoms):
    text = cif_text(gemmi.SpaceGroup("F d -3 m:1"), (0, 0, 0), named=True)
    line = next(line for line in text.splitlines() if "Hall" in line)
    (crystal,) = read_cif(text.replace(line, f"_symmetry_space_group_name_H-M '{name}'"))
    assert crystal.n_atoms == n_atoms
    assert not any(text.startswith("origin-choice") for text in crystal.warnings)


def test_operators_without_quotes_are_read():
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=False)
    bare = text.replace("'", "").replace(",", ", ")
    assert "\nx, y, z\n" in bare
    assert np.array_equal(read_cif(bare)[0].frac_coords, read_cif(text)[0].frac_coords)


@pytest.mark.parametrize("number", ["14.0", "'14'", "' 14 '", "014.", "'14.0'"])
def test_a_number_may_be_quoted_or_end_in_zeros(number):
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    line = next(line for line in text.splitlines() if "Hall" in line)
    (crystal,) = read_cif(text.replace(line, f"_symmetry_Int_Tables_number {number}"))
    assert crystal.n_atoms == 4


@pytest.mark.parametrize("number", ["0", "231", "9999999999", "9" * 5000])
def test_a_number_of_no_group_is_refused(number):
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    line = next(line for line in text.splitlines() if "Hall" in line)
    (failure,) = read_cif(text.replace(line, f"_space_group_IT_number {number}"))
    assert failure.reason.startswith("unknown-space-group: ")


def test_operators_that_form_no_group_are_pointed_out():
    text = cif_text(gemmi.SpaceGroup("P 4"), (1, 2, 3), named=False)
    (crystal,) = read_cif(text.replace("'-x,-y,z'\n", ""))
    assert [warning.split(":")[0] for warning in crystal.warnings] == ["symmetry-not-a-group"]


@pytest.mark.parametrize("name", ["P -1", "P 21/c"])
def test_a_list_without_the_identity_is_completed(name):
    text = cif_text(gemmi.SpaceGroup(name), (1, 2, 3), named=False)
    (whole,) = read_cif(text)
    (crystal,) = read_cif(text.replace("'x,y,z'\n", ""))
    assert same_positions(crystal.frac_coords, whole.frac_coords)
    assert [warning.split(":")[0] for warning in crystal.warnings] == ["missing-identity"]


@pytest.mark.parametrize(
    ("triplet", "row", "expected"),
    [
        ("X-Y, x, Z+0.333", 2, [0, 0, 1, 1 / 3]),
        ("1/2-x,y,z", 0, [-1, 0, 0, 0.5]),
        ("x,y+249/997,z", 1, [0, 1, 0, 1 / 4]),
        ("x,y+0.32,z", 1, [0, 1, 0, 0.32]),
        ("x, y, -1*z+.5", 2, [0, 0, -1, 0.5]),
    ],
)
def test_notations_of_an_operator(triplet, row, expected):
    assert parse_operation(triplet)[row] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("triplet", ["x,y", "a,b,c", "x,y,z,w", "x,,z", "x,y,y", "1" * 400 + "!,y,z"])
def test_nonsense_is_no_operator(triplet):
    with pytest.raises(ValueError, match=r"not|no symmetry"):
        parse_operation(triplet)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("P 4/m m m", "_length_b 16", "_length_b 16.5"),
        ("P 4/m m m", "_angle_gamma 90", "_angle_gamma 97"),
        ("P 21/c", "_angle_gamma 90", "_angle_gamma 105"),
        ("P 6", "_angle_gamma 120", "_angle_gamma 90"),
    ],
)
def test_a_cell_without_its_symmetry_is_pointed_out(name, before, after, named):
    text = cif_text(gemmi.SpaceGroup(name), (1, 2, 3), named)
    assert before in text
    (crystal,) = read_cif(text.replace(before, after))
    assert [warning.split(":")[0] for warning in crystal.warnings] == ["symmetry-cell-mismatch"]
    (rounded,) = read_cif(text.replace("_length_b 16", "_length_b 16.05"))
    assert rounded.warnings == ()


@pytest.mark.parametrize("name", ["P2_1/c", "P 1 2_1/c 1"])
def test_underscores_of_a_name_are_no_part_of_it(name):
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    line = next(line for line in text.splitlines() if "Hall" in line)
    (crystal,) = read_cif(text.replace(line, f"_symmetry_space_group_name_H-M '{name}'"))
    assert (crystal.n_atoms, crystal.warnings) == (4, ())


def test_an_unknown_name_leaves_the_number():
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    line = next(line for line in text.splitlines() if "Hall" in line)
    names = "_symmetry_space_group_name_H-M 'Unknown'\n_symmetry_Int_Tables_number 14"
    (crystal,) = read_cif(text.replace(line, names))
    assert crystal.n_atoms == 4 and crystal.warnings[0].startswith("origin-choice: number 14")


def test_operators_that_are_not_given_leave_the_name():
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    (crystal,) = read_cif(text + "loop_\n_symmetry_equiv_pos_as_xyz\n?\n")
    assert (crystal.n_atoms, crystal.warnings) == (4, ())


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("_space_group_name_Hall 'P 1'\n_symmetry_space_group_name_H-M 'P -1'", "P 1 and P -1"),
        ("_symmetry_space_group_name_H-M 'P 1'\n_symmetry_Int_Tables_number 2", "P 1 and number 2"),
        (
            "_symmetry_equiv_pos_as_xyz 'x,y,z'\n_space_group_name_H-M_alt 'P 1'\n_space_group_IT_number 2",
            "P 1",
        ),
    ],
)
def test_names_of_two_space_groups_are_told(lines, named):
    text = cif_text(GROUPS[0], (1, 2, 3), named=True).replace("_symmetry_space_group_name_Hall 'P 1'", lines)
    (crystal,) = read_cif(text)
    assert any(w.startswith("symmetry-disagreement") and named in w for w in crystal.warnings)


@pytest.mark.parametrize("setting", ["R -3 m :R", "R -3 m :H", "P 1 21/n 1", "F d -3 m :1", "F d -3 m :2"])
def test_settings_of_one_space_group_are_no_contradiction(setting):
    group = gemmi.SpaceGroup(setting)
    names = f"_symmetry_space_group_name_H-M '{setting}'\n_symmetry_Int_Tables_number {group.number}\n"
    text = cif_text(group, (1, 2, 3), named=True)
    (crystal,) = read_cif(text.replace("_symmetry_space_group_name_Hall", names + "_space_group_name_Hall"))
    assert not any(w.startswith("symmetry-disagreement") for w in crystal.warnings)


def test_magnetic_operators_are_refused():
    text = cif_text(GROUPS[1], (1, 2, 3), named=False)
    text = text.replace("_symmetry_equiv_pos_as_xyz", "_space_group_symop_magn_operation.xyz")
    (failure,) = read_cif(text.replace("'x,y,z'", "'x,y,z,+1'").replace("'-x,-y,-z'", "'-x,-y,-z,+1'"))
    assert failure.reason.startswith("bad-symmetry: only operators of a magnetic")


def of_group(name, cell, position):
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = ["data_x", *(f"_cell_{tag} {value}" for tag, value in zip(tags, cell, strict=True))]
    lines += [f"_symmetry_space_group_name_H-M '{name}'", "loop_", "_atom_site_type_symbol"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"] + [f"Zn {position}"]
    (crystal,) = read_cif("\n".join(lines) + "\n")
    return crystal


def test_two_digits_are_enough_for_a_special_position():
    crystal = of_group("P 3", (30, 30, 8, 90, 90, 120), "0.33 0.67 0.25")
    assert crystal.n_atoms == 1
    np.testing.assert_allclose(crystal.frac_coords, [[1 / 3, 2 / 3, 0.25]], atol=1e-6)
    assert of_group("P 3", (30, 30, 8, 90, 90, 120), "0.31 0.69 0.25").n_atoms == 3


@pytest.mark.parametrize(("b", "told"), [(10.03, False), (10.2, True)])
def test_a_cell_that_its_symmetry_would_distort_is_told(b, told):
    crystal = of_group("P m -3 m", (10, b, 10, 90, 90, 90), "0 0 0")
    assert any(text.startswith("symmetry-cell-mismatch") for text in crystal.warnings) == told


@pytest.mark.parametrize(("distance", "overlaps"), [(0.48, True), (0.52, False)])
def test_atoms_overlap_below_half_an_angstrom(distance, overlaps):
    crystal = Crystal(10 * np.eye(3), np.array([[0, 0, 0], [distance / 10, 0, 0]]), np.array([6, 6]))
    with pytest.raises(StructureError, match="overlapping-atoms") if overlaps else nullcontext():
        check_apart(crystal)


@pytest.mark.parametrize("hall", ["Q 9", "P", "unknown", "P 7x", "-P 2ybQ", "P " + "1" * 99])
def test_a_hall_symbol_that_nobody_knows_is_not_p1(hall):
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=True)
    line = next(line for line in text.splitlines() if "Hall" in line)
    unknown = f"_symmetry_space_group_name_Hall '{hall}'"
    (failure,) = read_cif(text.replace(line, unknown))
    assert failure.reason.startswith("unknown-space-group: Hall symbol ")
    (crystal,) = read_cif(text.replace(line, f"{unknown}\n_symmetry_space_group_name_H-M 'P 21/c'"))
    assert crystal.n_atoms == 4
    assert [warning.split(":")[0] for warning in crystal.warnings] == ["unknown-hall-symbol"]
    (crystal,) = read_cif(cif_text(GROUPS[13], (1, 2, 3), named=False) + unknown + "\n")
    assert (crystal.n_atoms, crystal.warnings) == (4, ())  # operators say more than names


def test_a_name_that_nobody_knows_is_not_dropped_for_a_number():
    """``C 4/m`` has twice the sites of number 83, which is P 4/m."""
    text = cif_text(gemmi.SpaceGroup("P 4/m"), (1, 2, 3), named=True)
    lines = [line for line in text.splitlines() if "Hall" not in line]
    unknown = [*lines, "_symmetry_space_group_name_H-M 'C 4/m'", "_symmetry_Int_Tables_number 83"]
    (crystal,) = read_cif("\n".join(unknown))
    (warning,) = crystal.warnings
    assert warning.startswith("symmetry-name: ") and "C 4/m" in warning and "number 83 was used" in warning


@pytest.mark.parametrize(("factor", "told"), [(1.0, False), (0.995, False), (1.02, True)])
def test_a_cell_without_the_volume_that_the_file_states_is_told(factor, told):
    text = cif_text(gemmi.SpaceGroup("P 1"), (1, 2, 3), named=True)
    volume = read_cif(text)[0].volume
    (crystal,) = read_cif(f"{text}\n_cell_volume {factor * volume:.2f}(3)\n")
    assert [warning.split(":")[0] for warning in crystal.warnings] == ["cell-volume"] * told
    assert read_cif(f"{text}\n_cell_volume ?\n")[0].warnings == ()


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group.number))
def test_every_hall_symbol_is_known(group):
    for hall in (group.hall, group.hall.lower(), group.hall.replace(" ", "_")):
        text = cif_text(group, (1, 2, 3), named=True).replace(f"'{group.hall}'", f"'{hall}'")
        assert read_cif(text)[0].warnings == ()


def test_operators_that_are_listed_twice_count_once():
    text = cif_text(gemmi.SpaceGroup("P 21/c"), (1, 2, 3), named=False)
    once, twice = read_cif(text)[0], read_cif(text.replace("'x,y,z'", "'x,y,z'\n" * 200))[0]
    assert np.array_equal(once.frac_coords, twice.frac_coords) and twice.warnings == ()


@pytest.mark.parametrize(
    "line",
    [
        "_cell_modulation_dimension 1",
        "loop_\n_space_group_symop_ssg_operation_algebraic\nx1,x2,x3,x4\n-x1,-x2,-x3,-x4",
    ],
)
def test_modulated_structures_are_refused(line):
    (failure,) = read_cif(GOOD.replace("_cell_length_a", f"{line}\n_cell_length_a"))
    assert failure.reason.startswith("bad-symmetry: the structure is modulated")
    (sound,) = read_cif(GOOD.replace("_cell_length_a", "_cell_modulation_dimension 0\n_cell_length_a"))
    assert sound.n_atoms == 5
