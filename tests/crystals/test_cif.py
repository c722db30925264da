import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.crystals import cif as cif_module
from mofgap.crystals import unit_cell
from mofgap.crystals.bonds import pairs_within
from mofgap.crystals.checks import NOTES
from mofgap.crystals.cif import ReadFailure, read_cif, read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.formats import stem_of
from mofgap.crystals.inputs import read_file
from mofgap.crystals.symmetry import operations
from mofgap.crystals.write import formula_sum

CIFS = Path(__file__).parents[1] / "fixtures" / "cifs"

SOUND = {
    "good": "C H O2 Zn",
    "bom": "C H O2 Zn",
    "crlf": "C H O2 Zn",
    "whitespace": "C H O2 Zn",
    "esd": "C H O2 Zn",
    "charged_symbols": "C H O2 Zn",
    "duplicate_labels": "C H O2 Zn",
    "no_type_symbols": "C H Cu O2",
    "name_only": "Mg4 O4",
    "rhombohedral": "C6 Ca6 O18",
    "hexagonal_operators": "O2 Zn2",
}
WARNED = {
    "latin1": ("encoding", "C H O2 Zn"),
    "utf16": ("encoding", "C H O2 Zn"),
    "dummy_site": ("empty-sites", "C H O2 Zn"),
    "duplicate_sites": ("duplicate-sites", "C H O2 Zn"),
    "duplicate_tag": ("duplicate-tag", "C H O2 Zn"),
    "cartesian": ("cartesian-coordinates", "C H O2 Zn"),
    "wrong_formula": ("composition", "C H O2 Zn"),
    "unquoted_value": ("unquoted-value", "C H O2 Zn"),
    "stray_words": ("lenient-reading", "C H O2 Zn"),
    "no_symmetry": ("no-symmetry", "C H O2 Zn"),
    "operators_win": ("symmetry-disagreement", "Mg O2"),
    "origin_choice": ("origin-choice", "C8"),
}
FAILED = {
    "junk": "bad-encoding",
    "empty": "empty-file",
    "web_page": "not-a-cif",
    "truncated": "truncated",
    "header_only": "no-atoms",
    "no_atoms": "no-atoms",
    "no_cell": "no-cell",
    "unknown_cell": "no-cell",
    "flat_cell": "bad-cell",
    "impossible_angles": "bad-cell",
    "unknown_element": "unknown-element",
    "missing_coordinates": "missing-coordinates",
    "partial_occupancy": "partial-occupancy",
    "disorder_groups": "partial-occupancy",
    "overlapping_atoms": "overlapping-atoms",
    "unknown_space_group": "unknown-space-group",
    "bad_operator": "bad-symmetry",
    "mixed_site": "partial-occupancy",
    "molecule_symbol": "unknown-element",
    "blank_label": "unknown-element",
    "far_atom": "bad-coordinates",
    "looped_cell": "no-cell",
    "unknown_hall": "unknown-space-group",
    "too_many_operators": "bad-symmetry",
}
SEVERAL = {"several_blocks", "damaged_block"}
GOOD = (CIFS / "good.cif").read_text()


def only(entries):
    assert len(entries) == 1
    return entries[0]


def read(name, **options):
    return only(read_file(CIFS / f"{name}.cif", **options))


def test_every_fixture_is_accounted_for():
    assert {path.stem for path in CIFS.glob("*.cif")} == {*SOUND, *WARNED, *FAILED, *SEVERAL}
    documented = (CIFS / "README.md").read_text()
    assert all(f"`{path.name}`" in documented for path in CIFS.glob("*.cif"))


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_read_without_a_warning(name):
    crystal = read(name)
    assert isinstance(crystal, Crystal), crystal
    assert crystal.warnings == ()
    assert formula_sum(crystal.atomic_numbers) == SOUND[name]
    assert crystal.structure_id == name


@pytest.mark.parametrize("name", WARNED)
def test_odd_files_read_with_a_named_warning(name):
    crystal = read(name)
    warning, formula = WARNED[name]
    assert [text.split(":")[0] for text in crystal.warnings] == [warning]
    assert formula_sum(crystal.atomic_numbers) == formula


@pytest.mark.parametrize("name", ["unquoted_value", "damaged_block", "latin1", "utf16"])
def test_how_a_file_is_written_is_no_reason_for_doubt(name):
    names = {text.split(":")[0] for entry in read_file(CIFS / f"{name}.cif") for text in entry.warnings}
    assert names and names <= NOTES


@pytest.mark.parametrize("name", FAILED)
def test_bad_files_fail_by_name_and_say_what_to_do(name):
    failure = read(name)
    assert isinstance(failure, ReadFailure)
    kind, explanation = failure.reason.split(": ", 1)
    assert kind == FAILED[name]
    assert ";" in explanation
    assert failure.source.endswith(f"{name}.cif")


def test_values_of_the_good_file():
    crystal = read("good")
    assert crystal.cell == pytest.approx(6 * np.eye(3))
    assert crystal.atomic_numbers.tolist() == [30, 8, 6, 8, 1]
    assert crystal.frac_coords[1] == pytest.approx([0.31, 0.05, 0])


def test_cartesian_and_fractional_coordinates_agree():
    assert read("cartesian").frac_coords == pytest.approx(read("good").frac_coords, abs=1e-5)


def test_several_blocks_give_several_entries():
    one, bad, two = read_file(CIFS / "several_blocks.cif")
    assert [one.structure_id, bad.structure_id, two.structure_id] == ["one", "bad", "two"]
    assert isinstance(bad, ReadFailure)
    assert bad.reason.startswith("unknown-element: site Q1")
    assert np.array_equal(one.frac_coords, two.frac_coords)


def test_a_damaged_block_leaves_the_others_alone():
    one, two = read_file(CIFS / "damaged_block.cif")
    assert (one.structure_id, one.warnings) == ("one", ())
    assert two.structure_id == "two" and "unquoted-value: line 26" in two.warnings[0]


def test_a_blank_label_and_a_looped_cell_are_called_so():
    assert "number 5 (blank label)" in read("blank_label").reason
    assert "table of 2 rows" in read("looped_cell").reason
    tags = [
        f"_cell_{name}"
        for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    ]
    lines = [line for line in GOOD.splitlines() if not line.startswith("_cell_")]
    lines[1:1] = ["loop_", *tags, "6 6 6 90 90 90"]  # one row says what pairs would
    assert only(read_cif("\n".join(lines))).warnings == ()


def test_reasons_are_one_short_line_that_ends_with_its_cure():
    text = three_sites("Zn").replace("Zn1 Zn ", f"'{'Q' * 1000}\x1b[31m' Qq ")
    (failure,) = read_cif(text)
    assert len(failure.reason) < 300 and failure.reason.endswith("dummy site")
    failure = ReadFailure("x.cif", "x", "name: " + "long\n\x1b[0m" * 1000 + "; cure")
    assert len(failure.reason) <= 300 and failure.reason.isprintable() and failure.reason.endswith("; cure")
    assert "\\x1b" in failure.reason
    (crystal,) = read_cif(GOOD + f"_{'q' * 1000} 1\n_{'q' * 1000} 1\n")
    assert all(len(warning) <= 300 for warning in crystal.warnings) and crystal.warnings


def test_an_exception_in_one_block_leaves_the_others_alone(monkeypatch):
    def breaks(block, *rest):
        if block.name == "two":
            raise TypeError("not foreseen\nat all")
        return operations(block, *rest)

    monkeypatch.setattr(cif_module, "operations", breaks)
    one, two, three = read_cif(
        "".join(GOOD.replace("data_good", f"data_{n}") for n in ("one", "two", "three"))
    )
    assert one.n_atoms == three.n_atoms == 5
    assert two.reason.startswith("unreadable: TypeError: not foreseen\\nat all; ")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'C H O2 Zn'", f"'C{'9' * 400}'"),
        ("'C H O2 Zn'", "'C0'"),
        ("'x, y, z'", f"'x, y, z+{'9' * 90}'"),
        ("_cell_length_a 6.0", "_cell_length_a 1e300"),
        ("_cell_length_a 6.0", "_cell_length_a 1e-300"),
        ("0.31000", "-1e300"),
        ("0.31000", "1e18"),
    ],
)
def test_absurd_numbers_warn_of_nothing_on_the_terminal(before, after):
    assert before in GOOD
    (entry,) = read_cif(GOOD.replace(before, after))
    assert isinstance(entry, ReadFailure) or entry.n_atoms == 5


def test_names_with_a_dot_are_those_with_an_underscore():
    dotted = GOOD.replace("_atom_site_", "_atom_site.").replace("_cell_", "_cell.")
    assert only(read_cif(dotted)).frac_coords == pytest.approx(only(read_cif(GOOD)).frac_coords)


def test_a_tetrahedral_site_is_no_tritium():
    text = GOOD.replace("_atom_site_type_symbol\n", "").replace("Zn1 Zn ", "T1 ")
    text = re.sub(r"^([A-Z]\d) [A-Z] ", r"\1 ", text, flags=re.MULTILINE)
    (failure,) = read_cif(text)
    assert failure.reason.startswith("unknown-element: site T1")


def test_hydrogens_that_are_counted_but_not_placed_are_told():
    text = GOOD.replace("_fract_z\n", "_fract_z\n_atom_site_attached_hydrogens\n")
    counts = {"Zn1": ".", "O1": "2", "C1": "?", "O2": "0", "H1": "0"}
    text = "".join(f"{line} {counts[word]}\n" if (word := line.split(" ")[0]) in counts else f"{line}\n"
                   for line in text.splitlines())  # fmt: skip
    (warning,) = only(read_cif(text)).warnings
    assert warning.startswith("missing-hydrogens: O1 have hydrogens")


def test_text_of_word_processors_is_text():
    quotes = b"_publ_section_title 'a \x93quote\x94 and \x96 or \x92'\n_cell_length_a"
    (crystal,) = read_cif_bytes(GOOD.encode().replace(b"_cell_length_a", quotes), "x.cif")
    assert [text.split(",")[0] for text in crystal.warnings] == ["encoding: the file is cp1252"]


def test_the_end_mark_of_dos_is_none():
    assert only(read_cif_bytes(GOOD.encode() + b"\x1a", "x.cif")).warnings == ()


def test_a_whole_cell_beside_its_operators_is_merged_before_pairs_are_sought(monkeypatch):
    counts = []

    def counted(cell, frac_coords, cutoff, centres=None):
        counts.append(len(frac_coords))
        return pairs_within(cell, frac_coords, cutoff, centres)

    monkeypatch.setattr(unit_cell, "pairs_within", counted)
    monkeypatch.setattr(unit_cell, "MOST_PAIRS", 1000)  # fewer than 32 atoms have
    corners = (
        "Mg1 0 0 0\nMg2 0 .5 .5\nMg3 .5 0 .5\nMg4 .5 .5 0\nO1 .5 .5 .5\nO2 .5 0 0\nO3 0 .5 0\nO4 0 0 .5\n"
    )
    text = re.sub("loop_.*", "", SITES.format("", ""), flags=re.DOTALL)
    loop = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    (crystal,) = read_cif(f"{text}_space_group_name_H-M_alt 'F m -3 m'\n{loop}{corners}")
    assert crystal.n_atoms == 8 and counts == [8]
    assert crystal.warnings[-1].startswith("duplicate-sites: 24 atoms")


@pytest.mark.parametrize(
    ("formula", "told"), [("C99 H101", False), ("C99 H102", True), ("C99 H101.6", False)]
)
def test_one_atom_in_two_hundred_is_missed_by_a_formula_of_whole_numbers(formula, told):
    rows = "".join(f"{'CH'[i % 2]}{i} {(i % 6) / 6} {(i // 6 % 6) / 6} {(i // 36) / 6}\n" for i in range(198))
    rows += "H198 .5 .5 .95\nH199 .5 .9 .95\n"
    sites = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
    cell = SITES.split("loop_")[0].replace(" 9\n", " 18\n")
    (crystal,) = read_cif(f"{cell}_chemical_formula_sum '{formula}'\n{sites}{rows}")
    assert any(text.startswith("composition: ") for text in crystal.warnings) == told


def test_blocks_of_one_name_are_told_apart():
    both = read_cif(GOOD + GOOD)
    assert [entry.structure_id for entry in both] == ["good", "good-2"]
    assert [entry.warnings for entry in both] == [(), ()]
    names = [entry.structure_id for entry in read_cif(GOOD + GOOD.replace("data_good", "data_good-2") + GOOD)]
    assert names == ["good", "good-2", "good-3"]


def test_too_many_atoms_are_refused_and_the_limit_can_be_raised():
    rows = "".join(
        f"C{i} C {i % 15 / 15:.5f} {i // 15 % 15 / 15:.5f} {i // 225 / 15:.5f}\n" for i in range(3000)
    )
    text = GOOD[: GOOD.index("Zn1 Zn")].replace("6.0", "30.0").replace("'C H O2 Zn'", "C") + rows
    assert only(read_cif(text)).reason.startswith("too-many-atoms: 3000 atoms")
    assert only(read_cif(text, max_atoms=3000)).n_atoms == 3000


def test_symmetry_counts_towards_the_limit():
    text = (CIFS / "name_only.cif").read_text()
    assert only(read_cif(text, max_atoms=8)).n_atoms == 8
    assert only(read_cif(text, max_atoms=7)).reason.startswith("too-many-atoms")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("_cell_length_b 6.0", "_cell_length_b 1e5", "bad-cell"),
        ("_cell_length_b 6.0", "_cell_length_b -6.0", "bad-cell"),
        ("_cell_length_b 6.0", "_cell_length_b nan", "bad-cell"),
        ("_cell_length_b 6.0", "_cell_length_b 0.001", "bad-cell"),
        ("_cell_angle_beta 90", "_cell_angle_beta 0", "bad-cell"),
        ("_cell_angle_beta 90", "_cell_angle_beta 270", "bad-cell"),
        ("_cell_length_a", "_symmetry_Int_Tables_number 1x\n_cell_length_a", "bad-value"),
        ("0.31000", "nan", "missing-coordinates"),
        (
            "a 6.0\n_cell_length_b 6.0\n_cell_length_c 6.0",
            "a 990\n_cell_length_b 990\n_cell_length_c 990",
            "bad-cell",
        ),
    ],
)
def test_absurd_values_are_refused_quickly(before, after, reason):
    assert before in GOOD
    assert only(read_cif(GOOD.replace(before, after))).reason.startswith(f"{reason}: ")


@pytest.mark.parametrize("axis", ["y", "z"])
@pytest.mark.parametrize("kind", ["fract", "Cartn"])
def test_a_missing_column_of_coordinates_is_refused(axis, kind):
    text = (CIFS / "cartesian.cif").read_text() if kind == "Cartn" else GOOD
    text = text.replace(f"_atom_site_{kind}_{axis}", f"_atom_site_other_{axis}")
    assert only(read_cif(text)).reason.startswith("missing-coordinates: ")


@pytest.mark.parametrize("value", ["100", "1.5", "nan", "inf", "abc"])
def test_an_occupancy_that_is_none_counts_as_one_with_a_warning(value):
    text = GOOD.replace("_fract_z\n", "_fract_z\n_atom_site_occupancy\n").replace("0.00000\n", "0.00000 1\n")
    assert only(read_cif(text)).warnings == ()
    crystal = only(read_cif(text.replace("0.05000 0.00000 1", f"0.05000 0.00000 {value}")))
    assert crystal.n_atoms == 5
    (warning,) = crystal.warnings
    assert warning.startswith(f"odd-occupancy: O1 ({value}), O2 ({value}) ")


def test_a_missing_file_is_a_failure():
    failure = only(read_file(CIFS / "nowhere.cif"))
    assert failure.reason.startswith("unreadable-file: No such file")


def test_empty_lines_do_not_cost_quadratic_time():
    assert only(read_cif("\n" * 300_000)).reason.startswith("empty-file")
    assert only(read_cif("\n" * 300_000 + GOOD)).n_atoms == 5


LINES = GOOD.splitlines(keepends=True)


@st.composite
def mutated(draw):
    """The bytes of a good CIF after a few accidents."""
    lines = list(LINES)
    for _ in range(draw(st.integers(0, 3))):
        del lines[draw(st.integers(0, len(lines) - 1))]
    if draw(st.booleans()):
        i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        lines[i], lines[j] = lines[j], lines[i]
    data = bytearray("".join(lines).encode())
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


@settings(max_examples=150, deadline=None)
@given(mutated(), st.sampled_from(["refuse", "majority"]))
def test_accidents_never_raise(data, disorder):
    entries = read_cif_bytes(data, "accident.cif", disorder=disorder)
    assert entries
    for entry in entries:
        if isinstance(entry, Crystal):
            assert 0 < entry.n_atoms <= 1000
            assert np.isfinite(entry.frac_coords).all()
            assert entry.volume > 0
            assert entry.atomic_numbers.min() > 0
        else:
            assert ": " in entry.reason


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


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("a:1.cif", "a:1"),
        ("f/a.zip:g/b:1.cif", "b:1"),
        ("a.tar.xz:b.cif", "b"),
        ("a.tgz:x.cif", "x"),
        ("d/a.cif.gz", "a"),
    ],
)
def test_names_with_colons_are_not_archives(source, stem):
    assert stem_of(source) == stem


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
    (crystal,) = read_cif(three_sites("Zn0.2Co0.1"), disorder="majority")  # mostly nothing is there
    assert formula_sum(crystal.atomic_numbers) == "C O"
    (failure,) = read_cif(three_sites("Zn0.5"))
    assert failure.reason.startswith("partial-occupancy: Zn0.51 (0.5)")


@pytest.mark.parametrize("occupancy", ["-1", "-0.5(1)", "1e300", "nan"])
def test_an_atom_of_impossible_occupancy_is_not_lost(occupancy):
    text = SITES.format("_atom_site_occupancy", f"{occupancy} Zn 0 0 0\n1 O .3 0 0\n")
    crystal = only(read_cif(text))
    assert formula_sum(crystal.atomic_numbers) == "O Zn"
    assert any(w.startswith("odd-occupancy: ") and occupancy in w for w in crystal.warnings)


def test_two_charges_of_one_element_are_one_element():
    assert formula_sum(only(read_cif(three_sites("Fe2+/Fe3+"))).atomic_numbers) == "C Fe O"


@pytest.mark.parametrize(
    "symbol",
    [
        *("H2O", "HOH", "Bq", "Ph", "NH3", "OH", "CH3", "CN"),
        *("ZnCo", "Zn_Co", "Wat", "2Zn8Co", "CO2", "CO3", "PO4"),
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
    "symbol", ["Zn2+", "Zn+2", "Zn3f2", "Zn3+2", "Zn_2", "Zn(II)", "Zn(2+)", "ZN", "Zn2", "zn", "67Zn"]
)
def test_charges_and_types_of_force_fields_name_one_element(symbol):
    assert formula_sum(only(read_cif(three_sites(symbol))).atomic_numbers) == "C O Zn"


@pytest.mark.parametrize(
    ("label", "formula"), [("CN1", "C2 O"), ("NH1", "C N O"), ("NO1", "C N O"), ("OG1", "C O2")]
)
def test_a_label_names_no_element_beyond_what_crystals_hold(label, formula):
    text = SITES.replace("_atom_site_type_symbol", "_atom_site_label")
    crystal = only(read_cif(text.format("", f"{label} 0 0 0\nO1 .2 0 0\nC1 .3 .1 0\n")))
    assert formula_sum(crystal.atomic_numbers) == formula


@pytest.mark.parametrize(
    ("symbol", "read_as"), [("D", "H"), ("T", "H"), ("2H", "H"), ("Ow", "O"), ("C_R", "C")]
)
def test_isotopes_and_types_of_atoms_are_elements(symbol, read_as):
    crystal = only(read_cif(three_sites("Zn").replace("Zn1 Zn ", f"A1 {symbol} ")))
    assert formula_sum(crystal.atomic_numbers[:1]) == read_as


def test_many_blocks_of_one_name_are_numbered():
    block = three_sites("Zn")
    text = 3 * block + block.replace("data_x", "data_x-2")
    assert [crystal.structure_id for crystal in read_cif(text)] == ["x", "x-3", "x-4", "x-2"]
