import re

import pytest

from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formula import formula_sum
from tests.crystals.test_disorder import only

THREEFOLD = """data_split
_cell_length_a 10
_cell_length_b 10
_cell_length_c 10
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
loop_
_symmetry_equiv_pos_as_xyz
x,y,z
-y,x-y,z
-x+y,-x,z
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Zn1 Zn 0.33333 0.66667 0.2 1
C1 C 0.2 0.1 0.5 1
Cl1 Cl {} {} 0.42 {}
"""


def test_an_atom_that_is_split_about_its_axis_is_one_atom():
    """A Cl 0.17 Å off a three-fold axis, a third of it in each of three places, is whole without a choice."""
    split = only(read_cif(THREEFOLD.format(0.35333, 0.67667, 0.3333)))
    assert formula_sum(split.atomic_numbers) == "C3 Cl Zn"
    assert split.frac_coords[-1] == pytest.approx([1 / 3, 2 / 3, 0.42], abs=1e-4)
    assert any(text.startswith("split-sites: Cl1 (3 places); ") for text in split.warnings)


@pytest.mark.parametrize(
    "operations", ["-y,x,z\n-x,-y,z\ny,-x,z", "x-y,x,z\n-y,x-y,z\n-x,-y,z\ny-x,-x,z\ny,y-x,z"]
)
def test_places_near_an_axis_all_count(operations: str):
    """A Cl 0.06 Å off a four-fold and a six-fold axis, whose places are near each other."""
    n = operations.count("\n") + 2
    text = THREEFOLD.format(0.006, 0, f"{1 / n:.4f}").replace("-y,x-y,z\n-x+y,-x,z", operations)
    if n == 4:
        text = re.sub(r"_cell_angle_gamma +120", "_cell_angle_gamma 90", text)
    (found,) = read_cif(text)
    assert isinstance(found, Crystal), found
    assert any(note.startswith(f"split-sites: Cl1 ({n} places); ") for note in found.warnings)


@pytest.mark.parametrize(
    ("group", "position", "n"),
    [
        ("P 4", (0.025, 0, 0.3), 4),
        ("P m -3 m", (0.025, 0, 0), 6),
        ("P 4/m m m", (0.02, 0.006, 0), 8),
        ("P 6/m m m", (0.03, 0, 0), 6),
        ("P 6", (0.037, 0, 0.3), 6),
    ],
)
def test_opposite_places_may_be_far_from_each_other(group: str, position: tuple[float, float, float], n: int):
    """An O 0.2 to 0.37 Å off an axis, whose neighbouring places alone are within 0.4 Å."""
    gamma = 120 if group.startswith("P 6") else 90
    x, y, z = position
    text = (
        f"data_x\n_cell_length_a 10\n_cell_length_b 10\n_cell_length_c 10\n_cell_angle_alpha 90\n"
        f"_cell_angle_beta 90\n_cell_angle_gamma {gamma}\n_space_group_name_H-M_alt '{group}'\n"
        "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        f"_atom_site_occupancy\nZn1 .5 .5 .5 1\nO1 {x} {y} {z} {1 / n:.4f}\n"
    )
    found = only(read_cif(text))
    assert (found.atomic_numbers == 8).sum() == 1
    assert found.frac_coords[found.atomic_numbers == 8][0] % 1 == pytest.approx([0, 0, z], abs=1e-9)
    assert any(note.startswith(f"split-sites: O1 ({n} places); ") for note in found.warnings)


@pytest.mark.parametrize(("occupancy", "is_whole"), [("0.5", True), ("0.25", False)])
def test_places_on_a_mirror_count_once(occupancy: str, is_whole: bool):
    """An O on a mirror, 0.18 Å off a two-fold axis, has two places, each of them by two operations."""
    text = THREEFOLD.format(0.018, 0, occupancy).replace("Cl1 Cl", "O1 O")
    operations = "x,y,z\n-x,-y,z\nx,-y,z\n-x,y,z\n"
    start, end = text.index("x,y,z"), text.index("loop_", text.index("x,y,z"))
    text = text[:start] + operations + text[end:]
    text = re.sub(r"_cell_angle_gamma +120", "_cell_angle_gamma 90", text)
    (found,) = read_cif(text)
    if is_whole:
        assert isinstance(found, Crystal) and (found.atomic_numbers == 8).sum() == 1
        assert any(text.startswith("split-sites: O1 (2 places); ") for text in found.warnings)
    else:
        assert isinstance(found, ReadFailure) and "partial-occupancy: O1 (0.5)" in found.reason


@pytest.mark.parametrize(
    ("x", "y", "occupancy"), [(0.33333, 0.66667, 0.3333), (0.335, 0.667, 0.3333), (0.35333, 0.67667, 0.5)]
)
def test_a_share_on_the_axis_and_one_too_large_stay_partial(x, y, occupancy):
    refused = only(read_cif(THREEFOLD.format(x, y, occupancy)))
    assert refused.reason.startswith("partial-occupancy: Cl1 ")
