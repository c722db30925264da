import re
from pathlib import Path

import numpy as np
import pytest

from mofgap.crystals import cif as cif_module
from mofgap.crystals import unit_cell
from mofgap.crystals.bonds import pairs_within
from mofgap.crystals.checks import NOTES
from mofgap.crystals.cif import read_cif, read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formula import formula_sum
from mofgap.crystals.inputs import read_all
from mofgap.crystals.symmetry import operations

CIFS = Path(__file__).parents[1] / "fixtures" / "cifs"

SOUND = {
    "good": "C H O2 Zn",
    "bom": "C H O2 Zn",
    "crlf": "C H O2 Zn",
    "whitespace": "C H O2 Zn",
    "esd": "C H O2 Zn",
    "duplicate_labels": "C H O2 Zn",
    "no_type_symbols": "C H Cu O2",
    "name_only": "Mg4 O4",
    "rhombohedral": "C6 Ca6 O18",
    "hexagonal_operators": "O2 Zn2",
}
WARNED = {
    "charged_symbols": ("deuterium", "C H O2 Zn"),
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
    (entry,) = entries
    return entry


def read(name, **options):
    return only(read_all(CIFS / f"{name}.cif", **options))


def sites_of(rows, formula, edge=6):
    """The good file with other sites, a label, a symbol and three coordinates each."""
    head = GOOD[: GOOD.index("Zn1 Zn")].replace("6.0", f"{edge}.0")
    return head.replace("'C H O2 Zn'", f"'{formula}'") + rows


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


@pytest.mark.parametrize("name", ["unquoted_value", "damaged_block", "latin1", "utf16", "charged_symbols"])
def test_how_a_file_is_written_is_no_reason_for_doubt(name):
    names = {text.split(":")[0] for entry in read_all(CIFS / f"{name}.cif") for text in entry.warnings}
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
    one, bad, two = read_all(CIFS / "several_blocks.cif")
    assert [one.structure_id, bad.structure_id, two.structure_id] == ["one", "bad", "two"]
    assert isinstance(bad, ReadFailure)
    assert bad.reason.startswith("unknown-element: site Q1")
    assert np.array_equal(one.frac_coords, two.frac_coords)


def test_a_damaged_block_leaves_the_others_alone():
    one, two = read_all(CIFS / "damaged_block.cif")
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
    lengths = ["_cell_length_a 6", "_cell_length_b 6", "_cell_length_c 6"]
    for cell in (
        ["loop_", *tags, "6 6 6 90 90 90"],  # one row says what pairs would
        [*lengths, "loop_", *tags[3:], "90 90 90"],
        ["loop_", *tags[:3], "_cell_volume", "6 6 6 216", "loop_", *tags[3:], "90 90 90"],
    ):
        assert only(read_cif("\n".join([lines[0], *cell, *lines[1:]]))).warnings == ()


def test_reasons_are_one_short_line_that_ends_with_its_cure():
    text = GOOD.replace("Zn1 Zn ", f"'{'Q' * 1000}\x1b[31m' Qq ")
    (failure,) = read_cif(text)
    assert len(failure.reason) < 300 and failure.reason.endswith("dummy site")
    failure = ReadFailure("x.cif", "x", "name: " + "long\n\x1b[0m" * 1000 + "; cure")
    assert len(failure.reason) <= 300 and failure.reason.isprintable() and failure.reason.endswith("; cure")
    assert "\\x1b" in failure.reason
    (crystal,) = read_cif(GOOD + f"_{'q' * 1000} 1\n_{'q' * 1000} 1\n")
    assert all(len(warning) <= 300 for warning in crystal.warnings) and crystal.warnings


def test_lines_may_end_as_on_old_macs():
    (crystal,) = read_cif_bytes(GOOD.replace("\n", "\r").encode(), "good.cif")
    assert (crystal.n_atoms, crystal.warnings) == (5, ())


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


def test_names_with_a_dot_are_those_with_an_underscore():
    dotted = GOOD.replace("_atom_site_", "_atom_site.").replace("_cell_", "_cell.")
    assert only(read_cif(dotted)).frac_coords == pytest.approx(only(read_cif(GOOD)).frac_coords)


@pytest.mark.parametrize("label", ["T1", "Bq1", "Ph2", "HOH1"])
def test_labels_of_sites_that_are_no_atoms_are_not_read_as_elements(label):
    """A tetrahedral site is no tritium, and a ghost atom no boron."""
    text = GOOD.replace("_atom_site_type_symbol\n", "").replace("Zn1 Zn ", f"{label} ")
    text = re.sub(r"^([A-Z]\d) [A-Z] ", r"\1 ", text, flags=re.MULTILINE)
    (failure,) = read_cif(text)
    assert failure.reason.startswith(f"unknown-element: site {label}")


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
    corners = "0 0 0\nMg2 Mg 0 .5 .5\nMg3 Mg .5 0 .5\nMg4 Mg .5 .5 0\n"
    centres = ".5 .5 .5\nO2 O .5 0 0\nO3 O 0 .5 0\nO4 O 0 0 .5\n"
    text = sites_of(f"Mg1 Mg {corners}O1 O {centres}", "Mg O").replace("'P 1'", "'F m -3 m'")
    (crystal,) = read_cif(text.replace("loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n", ""))
    assert crystal.n_atoms == 8 and counts == [8]
    assert crystal.warnings[-1].startswith("duplicate-sites: merged 24 atoms")


@pytest.mark.parametrize(
    ("formula", "told"), [("C99 H101", False), ("C99 H102", True), ("C99 H101.6", False)]
)
def test_one_atom_in_two_hundred_is_missed_by_a_formula_of_whole_numbers(formula, told):
    rows = "".join(
        f"X{i} {'CH'[i % 2]} {(i % 6) / 6} {(i // 6 % 6) / 6} {(i // 36) / 6}\n" for i in range(198)
    )
    rows += "X198 H .5 .5 .95\nX199 H .5 .9 .95\n"
    (crystal,) = read_cif(sites_of(rows, formula, edge=18))
    assert any(text.startswith("composition: ") for text in crystal.warnings) == told


def test_blocks_of_one_name_are_told_apart():
    both = read_cif(GOOD + GOOD)
    assert [entry.structure_id for entry in both] == ["good", "good-2"]
    assert [entry.warnings for entry in both] == [(), ()]
    second = GOOD.replace("data_good", "data_good-2")
    names = [entry.structure_id for entry in read_cif(GOOD + second + GOOD)]
    assert names == ["good", "good-2", "good-3"]
    names = [entry.structure_id for entry in read_cif(3 * GOOD + second)]
    assert names == ["good", "good-3", "good-4", "good-2"]


def test_too_many_atoms_are_refused_and_the_limit_can_be_raised():
    rows = "".join(
        f"C{i} C {i % 15 / 15:.5f} {i // 15 % 15 / 15:.5f} {i // 225 / 15:.5f}\n" for i in range(3000)
    )
    text = sites_of(rows, "C", edge=30)
    assert only(read_cif(text)).reason.startswith("too-many-atoms: 3000 atoms")
    assert only(read_cif(text, max_atoms=3000)).n_atoms == 3000


def test_symmetry_counts_towards_the_limit():
    text = (CIFS / "name_only.cif").read_text()
    assert only(read_cif(text, max_atoms=8)).n_atoms == 8
    assert only(read_cif(text, max_atoms=7)).reason.startswith("too-many-atoms")


@pytest.mark.parametrize("value", ["100", "1.5", "nan", "inf", "abc"])
def test_an_occupancy_that_is_none_counts_as_one_with_a_warning(value):
    text = GOOD.replace("_fract_z\n", "_fract_z\n_atom_site_occupancy\n").replace("0.00000\n", "0.00000 1\n")
    assert only(read_cif(text)).warnings == ()
    crystal = only(read_cif(text.replace("0.05000 0.00000 1", f"0.05000 0.00000 {value}")))
    assert crystal.n_atoms == 5
    (warning,) = crystal.warnings
    assert warning.startswith(f"odd-occupancy: O1 ({value}), O2 ({value}) ")


@pytest.mark.parametrize(
    ("change", "encoding"),
    [
        (lambda text: "# old Mac\r" + text.replace("\n", "\r") + "\n", "utf-8"),
        (lambda text: "# header\r\n" + text.replace("\n", "\r"), "utf-8"),
        (lambda text: text.replace("Zn1 Zn ", "Zn1\u00a0Zn\u00a0"), "utf-8"),
        (lambda text: text.replace(" 0.05000", " \u22120.95000"), "utf-8"),
        (lambda text: f"# 金属有機構造体、東京大学\n{text}", "shift-jis"),
        (lambda text: f"# Université, Müller, Ångström, Žák\n{text}", "mac-latin2"),
    ],
)
def test_the_way_a_program_writes_text_does_not_matter(change, encoding):
    data = change((CIFS / "good.cif").read_text()).encode(encoding, "replace")
    (crystal,) = read_cif_bytes(data, "mof.cif")
    assert formula_sum(crystal.atomic_numbers) == "C H O2 Zn"


@pytest.mark.parametrize(
    "text", ["TITL mof in P 21/c\nCELL 0.71 9 10 11 90 101 90\n", "CRYST1 9.0 10.0 11.0\n"]
)
def test_a_format_with_symmetry_is_not_to_be_converted_by_ase(text):
    (refused,) = read_cif(text)
    assert refused.reason.startswith("not-a-cif: a file of SHELX or PDB; export a CIF with its symmetry")


def test_values_of_cif_2_in_triple_quotes_are_read():
    plain = (
        "data_x\n_cell_length_a 9\n_cell_length_b 9\n_cell_length_c 9\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_space_group_name_H-M_alt 'P -1'\n"
        "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nZn1 .1 .2 .3\n"
    )
    plain = plain.replace("loop_", "# a ''' b\n_chemical_name_common \"5''' end\"\nloop_", 1) + "# c ''' d\n"
    notes = "_publ_section_comment\n'''of two lines\nloop_ data_y'''\n_chemical_name \"\"\"it's\"\"\"\n"
    text = "#\\#CIF_2.0\n" + plain.replace("'P -1'", "'''P -1'''").replace("loop_", f"{notes}loop_", 1)
    (expected,), (found,) = read_cif(plain), read_cif(text)
    assert np.array_equal(found.frac_coords, expected.frac_coords) and len(found.frac_coords) == 2
