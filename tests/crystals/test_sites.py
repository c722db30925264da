import re

import numpy as np
import pytest

from mofgap.crystals.checks import NOTES
from mofgap.crystals.cif import read_cif
from mofgap.crystals.formula import formula_sum

SITES = """data_x
_cell_length_a 9
_cell_length_b 9
_cell_length_c 9
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
{}
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
{}"""


def test_a_dummy_of_no_element_is_left_out():
    tags = "_atom_site_label\n_atom_site_calc_flag"
    (crystal,) = read_cif(SITES.format(tags, "Zn1 d Zn 0 0 0\nQ1 dum Q .1 .1 .1\nO1 d O .3 0 0\n"))
    assert crystal.atomic_numbers.tolist() == [30, 8]
    assert [text.split(":")[0] for text in crystal.warnings][:1] == ["empty-sites"]


def test_sites_without_labels_are_read_by_their_symbols():
    (crystal,) = read_cif(SITES.format("", "Zn 0 0 0\nO .3 0 0\nO .6 0 0\n"))
    assert crystal.atomic_numbers.tolist() == [30, 8, 8]


def three_sites(symbol: str) -> str:
    return SITES.format("_atom_site_label", f"{symbol}1 {symbol} 0 0 0\nO1 O .2 0 0\nC1 C .3 .1 0\n")


@pytest.mark.parametrize(
    "symbol",
    [
        "0.8Zn+0.2Co",
        "Zn0.5Co0.5",
        "Zn/Co",
        "Zn,Co",
        "Zn0.5(1)Co0.5",
        "Zn2+/Co2+",
        "Zn2+Co2+",
        "Zn:0.5,Co:0.5",
        "Zn;Co",
        "'Zn 0.6(1) Co 0.4(1)'",
        "'0.648(4)Zn + 0.352(4)Co'",
    ],
)
def test_a_site_of_several_elements_is_refused_or_settled(symbol):
    text = three_sites("Zn").replace("Zn1 Zn ", f"T {symbol} ")
    (failure,) = read_cif(text)
    plain = symbol.strip("'")
    assert failure.reason.startswith(f"partial-occupancy: T ({plain}): several elements on a site")
    (crystal,) = read_cif(text, disorder="majority")
    assert formula_sum(crystal.atomic_numbers) == "C O Zn"
    assert any(w.startswith("disorder-majority: ") and f"T ({plain})" in w for w in crystal.warnings)


def test_the_likelier_element_is_kept_and_a_share_is_an_occupancy():
    (crystal,) = read_cif(three_sites("Zn0.2Co0.8"), disorder="majority")
    assert formula_sum(crystal.atomic_numbers) == "C Co O"
    (crystal,) = read_cif(three_sites("Zn0.4Co0.3Ni0.3"), disorder="majority")  # always one of them
    assert formula_sum(crystal.atomic_numbers) == "C O Zn"
    (crystal,) = read_cif(three_sites("Zn0.2Co0.1"), disorder="majority")  # mostly nothing is there
    assert formula_sum(crystal.atomic_numbers) == "C O"
    (failure,) = read_cif(three_sites("Zn0.5"))
    assert failure.reason.startswith("partial-occupancy: Zn0.51 (0.5)")


@pytest.mark.parametrize("occupancy", ["-1", "-0.5(1)", "1e300", "nan"])
def test_an_atom_of_impossible_occupancy_is_not_lost(occupancy):
    text = SITES.format("_atom_site_occupancy", f"{occupancy} Zn 0 0 0\n1 O .3 0 0\n")
    (crystal,) = read_cif(text)
    assert formula_sum(crystal.atomic_numbers) == "O Zn"
    assert any(w.startswith("odd-occupancy: ") and occupancy in w for w in crystal.warnings)


def test_an_impossible_occupancy_counts_as_one_on_a_site_of_several_elements_too():
    tags = "_atom_site_label\n_atom_site_occupancy"
    text = SITES.format(tags, "Zn1 1.5 Zn0.4 0 0 0\nO1 1 O .3 0 0\n")
    (crystal,) = read_cif(text, disorder="majority")
    assert formula_sum(crystal.atomic_numbers) == "O"  # the site is mostly empty
    assert any(w.startswith("odd-occupancy: Zn1 (1.5) counted as 1") for w in crystal.warnings)


def test_two_charges_of_one_element_are_one_element():
    (crystal,) = read_cif(three_sites("Fe2+/Fe3+"))
    assert formula_sum(crystal.atomic_numbers) == "C Fe O"


@pytest.mark.parametrize(
    "symbol",
    [
        *("H2O", "HOH", "Bq", "Ph", "NH3", "OH", "CH3", "CN"),
        *("T", "ZnCo", "Zn_Co", "Wat", "2Zn8Co", "CO2", "CO3", "PO4"),
        *("CF2", "CF3", "CF4", "HF2", "HF2-", "CD3", "ND3", "ND4", "ND4+"),
    ],
)
def test_what_is_no_element_is_refused_by_name(symbol):
    (failure,) = read_cif(three_sites(symbol))
    assert failure.reason.startswith(f"unknown-element: site {symbol}1 ({symbol}) ")


def test_a_label_of_several_elements_is_refused_where_there_is_no_symbol():
    text = SITES.replace("_atom_site_type_symbol\n", "")
    (failure,) = read_cif(text.format("_atom_site_label", "Zn1/Co1 0 0 0\nO1 .3 0 0\n"))
    assert failure.reason.startswith("partial-occupancy: Zn1/Co1: several elements")
    (crystal,) = read_cif(text.format("_atom_site_label", "C1/C2 0 0 0\nO1,2 .3 0 0\n"))
    assert formula_sum(crystal.atomic_numbers) == "C O"


@pytest.mark.parametrize(
    "label", ["Zn0.5Co0.5", "Zn0.6(1)Co0.4(1)", "Si.5Al.5", "Zn1Co1", "Zn1:Co1", "'Zn1 Co1'", "Zn1_Co1"]
)
def test_a_label_of_shares_or_of_two_metals_is_one_of_several_elements(label):
    text = SITES.replace("_atom_site_type_symbol\n", "")
    (failure,) = read_cif(text.format("_atom_site_label", f"{label} 0 0 0\nO1 .3 0 0\n"))
    plain = label.strip("'")
    assert failure.reason.startswith(f"partial-occupancy: {plain}: several elements")


@pytest.mark.parametrize(
    "label",
    ["Zn1A", "C1B", "O1W", "O1WA", "CO1", "H2O1", "Car1", "ZnNi1", "Zn1Zn2", "C1Cl2", "O1.1B", "Zn1W1"],
)
def test_a_label_of_more_than_an_element_names_one(label):
    text = SITES.replace("_atom_site_type_symbol\n", "")
    (crystal,) = read_cif(text.format("_atom_site_label", f"{label} 0 0 0\nO1 .3 0 0\n"))
    assert crystal.n_atoms == 2


@pytest.mark.parametrize(
    "symbol", ["Zn2+", "Zn+2", "Zn3f2", "Zn3+2", "Zn_2", "Zn(II)", "Zn(2+)", "ZN", "Zn2", "zn", "67Zn"]
)
def test_charges_and_types_of_force_fields_name_one_element(symbol):
    (crystal,) = read_cif(three_sites(symbol))
    assert formula_sum(crystal.atomic_numbers) == "C O Zn"


@pytest.mark.parametrize(
    ("label", "formula"), [("CN1", "C2 O"), ("NH1", "C N O"), ("NO1", "C N O"), ("OG1", "C O2")]
)
def test_a_label_names_no_element_beyond_what_crystals_hold(label, formula):
    text = SITES.replace("_atom_site_type_symbol", "_atom_site_label")
    (crystal,) = read_cif(text.format("", f"{label} 0 0 0\nO1 .2 0 0\nC1 .3 .1 0\n"))
    assert formula_sum(crystal.atomic_numbers) == formula


@pytest.mark.parametrize(
    ("label", "told"),
    [("Car1", True), ("Nim1", True), ("Lig1", True), ("CA1", True), ("Owat1", False), ("Zn1A", False)],
)
def test_a_label_that_is_more_than_an_element_is_told(label: str, told: bool):
    text = SITES.replace("_atom_site_type_symbol", "_atom_site_label")
    (crystal,) = read_cif(text.format("", f"{label} 0 0 0\nO1 .2 0 0\nC1 .3 .1 0\n"))
    found = [w for w in crystal.warnings if w.startswith("ambiguous-element: ")]
    assert len(found) == told and (not told or f"read {label} as " in found[0])


@pytest.mark.parametrize(("symbol", "read_as"), [("D", "H"), ("2H", "H"), ("Ow", "O"), ("C_R", "C")])
def test_isotopes_and_types_of_atoms_are_elements(symbol, read_as):
    (crystal,) = read_cif(three_sites("Zn").replace("Zn1 Zn ", f"A1 {symbol} "))
    assert formula_sum(crystal.atomic_numbers[:1]) == read_as
    assert [text for text in crystal.warnings if text.startswith("deuterium: ")] == (
        ["deuterium: atoms of D were read as H"] if read_as == "H" else []
    )


def test_a_label_of_deuterium_is_noted():
    text = SITES.replace("_atom_site_type_symbol", "_atom_site_label")
    (crystal,) = read_cif(text.format("", "D1A 0 0 0\nDy1 .2 0 0\nC1 .3 .1 0\n"))
    assert [text.split(":")[0] for text in crystal.warnings] == ["deuterium"] and "deuterium" in NOTES
    (crystal,) = read_cif(text.format("", "H1A 0 0 0\nDy1 .2 0 0\nC1 .3 .1 0\n"))
    assert crystal.warnings == ()


@pytest.mark.parametrize(
    ("symbol", "element"), [(each, each.capitalize()) for each in ("CO", "HO", "PO", "HF", "CF", "CD", "ND")]
)
def test_a_symbol_that_may_be_two_atoms_is_told_unless_the_formula_has_the_element(symbol, element):
    text = three_sites(symbol)
    (crystal,) = read_cif(text)
    assert any(
        w.startswith("ambiguous-element: ") and f"{symbol} as {element}" in w for w in crystal.warnings
    )
    (crystal,) = read_cif(f"{text}\n_chemical_formula_sum '{element} C O'\n")
    assert not any(w.startswith("ambiguous-element: ") for w in crystal.warnings)
    (crystal,) = read_cif(three_sites(element))
    assert not any(w.startswith("ambiguous-element: ") for w in crystal.warnings)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_number_in_quotes_is_a_number(quote):
    def written(mark, share):
        rows = (["Zn1", 1, "Zn", 0.1, 0.2, 0.3], ["O1", share, "O", "0.3(1)", 0.2, 0.3])
        text = "".join("{} @{}@ {} @{}@ @{}@ @{}@\n".format(*row) for row in rows)
        text = SITES.format("_atom_site_label\n_atom_site_occupancy", text)
        return re.sub(r"(?m)^(_cell_\w+ )(\S+)$", r"\1@\2@", text).replace("@", mark)

    (found,), (expected,) = read_cif(written(quote, 1)), read_cif(written("", 1))
    np.testing.assert_array_equal(found.frac_coords, expected.frac_coords)
    np.testing.assert_array_equal(found.cell, expected.cell)
    (refused,) = read_cif(written(quote, 0.5))
    assert refused.reason.startswith("partial-occupancy: O1 (0.5)")


@pytest.mark.parametrize(
    ("label", "read_as"), [("MOF_Zn1", "Mo"), ("MOL1", "Mo"), ("LIG2", "Li"), ("GAS1", "Ga")]
)
def test_a_label_of_a_word_in_capitals_may_mean_another_atom(label, read_as):
    text = SITES.replace("_atom_site_type_symbol\n", "")
    (crystal,) = read_cif(text.format("_atom_site_label", f"{label} 0 0 0\nO1 .3 0 0\n"))
    assert crystal.warnings == (f"ambiguous-element: no type symbols, read {label} as {read_as}",)
