from __future__ import annotations

import numpy as np
import pytest

from mofgap.crystals.cif import read_cif
from mofgap.crystals.entry import ReadFailure

SITES = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
CELL = """data_mof
_cell_length_a 9.0
_cell_length_b 10.0
_cell_length_c 11.0
_cell_angle_alpha 90
_cell_angle_beta {beta}
_cell_angle_gamma 90
"""
GOOD = (
    CELL.format(beta=101)
    + "_chemical_formula_sum 'C H O2 Zn'\n_space_group_name_H-M_alt 'P 21/c'\n"
    + SITES
    + "Zn1 0.11 0.21 0.31\nO1 0.31 0.22 0.33\nO2 0.11 0.42 0.37\nC1 0.61 0.72 0.13\nH1 0.66 0.81 0.13\n"
)
# Where it stands, and what is put there.
HARMLESS = {
    "words": ("_cell_length_a", "_exptl_crystal_colour pale blue\n_cell_length_a"),
    "words in a row": ("_cell_length_a", "_publ_author_name Smith, J. Doe's\n_cell_length_a"),
    "space group": ("'P 21/c'", "P 21/c   # no quotes"),
    "formula": ("'C H O2 Zn'", "C H O2 Zn"),
    "temperature": ("_cell_length_a", "_cell_measurement_temperature 293 K\n_cell_length_a"),
    "umlaut": ("_cell_length_a", "_audit_author Müller\n_cell_length_a"),
    "greek label": ("O1", "O1β"),
    "name": ("data_mof", "data_my mof 1"),
    "quote": ("_cell_length_a", "_journal_name 'Acta\n_cell_length_a"),
    "names in a loop": (
        "_cell_length_a",
        "loop_\n_publ_author_name\n_publ_author_address\nDoe\n_cell_length_a",
    ),
    "bonds": ("H1 0.66 0.81 0.13\n", "H1 0.66 0.81 0.13\nloop_\n_geom_a\n_geom_b\n1 2 3\n"),
    "cut off in the bonds": ("H1 0.66 0.81 0.13\n", "H1 0.66 0.81 0.13\nloop_\n_geom_a\n_geom_b\n1 2 3"),
    "text": ("_cell_length_a", "_a pale blue\n_publ_text\n;\nloop_\n_b 1\n;\n_cell_length_a"),
    "file inside": (
        "_cell_length_a",
        "_a pale blue\n_fcf_text\n;\ndata_mof\n_cell_length_a 3\n;\n_cell_length_a",
    ),
    "comments": ("_cell_length_a", "_a pale blue\n# _cell_length_a 3\n\n  # loop_\n_cell_length_a"),
}
# Where quotes alone were lacking, nothing is left out.
UNQUOTED = {
    "words",
    "words in a row",
    "space group",
    "formula",
    "temperature",
    "text",
    "file inside",
    "comments",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_damage_elsewhere_does_not_matter(name: str) -> None:
    (sound,) = read_cif(GOOD, "mof.cif")
    old, new = HARMLESS[name]
    (found,) = read_cif(GOOD.replace(old, new, 1), "mof.cif")
    assert not isinstance(found, ReadFailure), found.reason
    assert found.n_atoms == 20 and np.array_equal(found.frac_coords, sound.frac_coords)
    assert np.array_equal(found.atomic_numbers, sound.atomic_numbers)
    warning = "unquoted-value" if name in UNQUOTED else "lenient-reading"
    assert [text.split(": ")[0] for text in found.warnings] == [warning]


@pytest.mark.parametrize(
    "name", ["P21/c", "P 21/c", "P21/n", "P2(1)/c", "C2/c", "F d -3 m :2", "R -3 m :H", "R-3m"]
)
def test_symmetry_is_that_of_the_undamaged_file(name: str) -> None:
    hexagonal, cubic = name.startswith("R"), name.startswith("F")
    text = GOOD.replace("P 21/c", name).replace("O1 0.31 0.22 0.33\nO2 0.11 0.42 0.37\n", "")
    if hexagonal or cubic:
        text = text.replace("10.0", "9.0").replace("_beta 101", "_beta 90")
        text = text.replace("_gamma 90", "_gamma 120") if hexagonal else text.replace("11.0", "9.0")
    (sound,) = read_cif(text)
    (found,) = read_cif(text.replace("_cell_length_a", "_exptl_crystal_colour pale blue\n_cell_length_a"))
    if isinstance(sound, ReadFailure):
        assert isinstance(found, ReadFailure) and found.reason == sound.reason
    else:
        assert np.array_equal(found.frac_coords, sound.frac_coords)
        assert found.warnings[1:] == sound.warnings


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("O1 0.31 0.22 0.33", "O1 0.31 0.33", "syntax: line"),
        ("O1 0.31 0.22 0.33", "O 1 0.31 0.22 0.33", "syntax: line"),
        ("O1 0.31 0.22 0.33", "O1 0.31 0.22 0.33 7", "syntax: line"),
        ("_cell_length_a", "_publ_text\n;\nit does not end\n_cell_length_a", "syntax: line"),
        ("C1 0.61 0.72 0.13\nH1 0.66 0.81 0.13\n", "C1 0.61 0.7", "truncated: "),
        ("H1 0.66 0.81 0.13\n", "H1 0.66 0.81 0.13\n_publ_text\n;\nit does not", "truncated: "),
    ],
)
def test_damage_to_the_structure_is_refused(old: str, new: str, reason: str) -> None:
    text = GOOD.replace(old, new) + ("" if reason.startswith("trunc") else "loop_\n_geom_a\n1\n")
    (failure,) = read_cif(text)
    assert isinstance(failure, ReadFailure) and failure.reason.startswith(reason), failure


@pytest.mark.parametrize(
    ("sites", "reason"),
    [
        ("_atom_site_disorder_group\nZn1 0 0 0 .\nO1 .3 0 0 1\nO2 .3 .3 0 2\n", "partial-occupancy"),
        ("_atom_site_calc_flag\nZn1 0 0 0 .\nX1 .3 0 0 dum\n", ""),
        ("_symmetry_equiv_pos_as_xyz\nZn1 0 0 0 x,y,q\n", "bad-symmetry"),
    ],
)
def test_what_is_refused_or_left_out_elsewhere_is_so_here(sites: str, reason: str) -> None:
    (found,) = read_cif(f"{CELL.format(beta=90)}_colour pale blue\n{SITES}{sites}")
    if reason:
        assert isinstance(found, ReadFailure) and found.reason.startswith(reason)
    else:
        assert found.atomic_numbers.tolist() == [30]


def test_a_damaged_block_without_sites_costs_nothing() -> None:
    (found,) = read_cif("data_global\n_publ_text\n;\nit does not end\n" + GOOD)
    assert found.n_atoms == 20
