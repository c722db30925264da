"""What gemmi leaves out of a CIF block, or stumbles over."""

from __future__ import annotations

import pytest

from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure

HEAD = """data_x
_cell_length_a 9
_cell_length_b 9
_cell_length_c 9
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
"""
NAMES = ("label", "type_symbol", "fract_x", "fract_y", "fract_z", "occupancy")
ROWS = (("Zn1", "Co", ".1", ".2", ".3", "0.4"), ("C1", "N", ".6", ".7", ".8", "0.5"))


def loop(names: tuple[str, ...]) -> str:
    places = [NAMES.index(name) for name in names]
    rows = [" ".join(row[place] for place in places) for row in ROWS]
    return "\n".join(["loop_", *(f"_atom_site_{name}" for name in names), *rows, ""])


@pytest.mark.parametrize("apart", NAMES[1:])
def test_atom_sites_in_several_tables_are_refused(apart: str) -> None:
    text = HEAD + loop(tuple(name for name in NAMES if name != apart)) + loop((apart,))
    (failure,) = read_cif(text, disorder="majority")
    assert isinstance(failure, ReadFailure) and failure.reason.startswith("bad-structure: ")
    assert f"_atom_site_{apart} is not in that of _atom_site_label" in failure.reason


def test_a_value_beside_a_table_of_atom_sites_is_not_lost() -> None:
    (failure,) = read_cif(HEAD + loop(NAMES[:-1]) + "_atom_site_occupancy 0.5\n")
    assert isinstance(failure, ReadFailure) and failure.reason.startswith("bad-structure: ")


@pytest.mark.parametrize(
    "column", ["_atom_site_type_symbol ?", "_atom_site_occupancy ?", "_atom_site_occupancy 1.0"]
)
def test_a_value_beside_the_table_that_says_nothing_is_passed_over(column: str) -> None:
    (crystal,) = read_cif(HEAD + f"{column}\n" + loop(NAMES[:-1]))
    assert isinstance(crystal, Crystal)


def test_a_name_in_place_of_the_number_of_a_space_group_is_read() -> None:
    text = HEAD + "_symmetry_Int_Tables_number P-1\n"
    (crystal,) = read_cif(text + loop(NAMES[:-1]))
    assert isinstance(crystal, Crystal) and crystal.n_atoms == 4
    (listed,) = read_cif(f"{text}loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n" + loop(NAMES[:-1]))
    assert isinstance(listed, Crystal) and "symmetry-disagreement" in "".join(listed.warnings)


@pytest.mark.parametrize("number", ["n/a", "'not known'"])
def test_a_number_of_a_space_group_that_is_none_is_unknown(number: str) -> None:
    text = HEAD + f"_symmetry_Int_Tables_number {number}\n"
    sites = loop(NAMES[:-1])
    (crystal,) = read_cif(f"{text}loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z\n{sites}")
    assert isinstance(crystal, Crystal) and crystal.n_atoms == 4
    (failure,) = read_cif(text + sites)
    assert isinstance(failure, ReadFailure)
    assert failure.reason.startswith("unknown-space-group: number ") and number.strip("'") in failure.reason


@pytest.mark.parametrize(
    "tag",
    [
        "_symmetry_Int_Tables_number",
        "_space_group_symop_ssg_operation_algebraic",
        "_space_group_symop_magn_operation_xyz",
        "_atom_site_Cartn_x",
        "_atom_site_occupancy",
        "_atom_site_disorder_group",
    ],
)
def test_a_table_without_rows_says_nothing(tag: str) -> None:
    (crystal,) = read_cif(f"{HEAD}loop_\n{tag}\n{loop(NAMES[:-1])}")
    assert isinstance(crystal, Crystal)
    assert crystal.warnings == read_cif(HEAD + loop(NAMES[:-1]))[0].warnings


def test_a_cell_in_a_table_without_rows_is_unknown() -> None:
    head = HEAD.replace("_cell_length_c 9\n", "")
    (failure,) = read_cif(f"{head}loop_\n_cell_length_c\n{loop(NAMES[:-1])}")
    assert isinstance(failure, ReadFailure) and failure.reason.startswith("no-cell: ")
