"""Elements of an (extended) XYZ file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import Entry, ReadFailure
from mofgap.crystals.inputs import read_all

LATTICE = 'Lattice="9 0 0 0 9 0 0 0 9"'
COLUMNS = {"species": "species:S:1:pos:R:3", "both": "species:S:1:pos:R:3:Z:I:1", "Z": "Z:I:1:pos:R:3"}


def read_xyz(tmp_path: Path, columns: str, *atoms: str) -> Entry:
    path = tmp_path / "a.xyz"
    path.write_text("\n".join([str(len(atoms)), f"{LATTICE} {columns}", *atoms]) + "\n")
    (entry,) = read_all(path)
    return entry


@pytest.mark.parametrize(
    "columns", ["", f"Properties={COLUMNS['species']}", f'Properties="{COLUMNS["species"]}"']
)
def test_symbols_name_elements_in_any_case(columns: str, tmp_path: Path) -> None:
    entry = read_xyz(tmp_path, columns, "ZN 0 0 0", "cl 3 0 0", "D 5 0 0")
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [30, 17, 1]
    assert [text.split(":")[0] for text in entry.warnings] == ["deuterium"]


@pytest.mark.parametrize("name", ["Species", "element", "symbols", "type"])
def test_other_names_of_the_column_of_elements(name: str, tmp_path: Path) -> None:
    entry = read_xyz(tmp_path, f"Properties={name}:S:1:pos:R:3", "Zn 0 0 0", "O 3 0 0")
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [30, 8]


def test_a_column_of_types_beside_numbers_names_no_element(tmp_path: Path) -> None:
    entry = read_xyz(tmp_path, "Properties=type:S:1:Z:I:1:pos:R:3", "CA 6 0 0 0", "O1 8 3 0 0")
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [6, 8] and not entry.warnings


def test_the_cell_may_be_written_small(tmp_path: Path) -> None:
    (tmp_path / "x.xyz").write_text('1\nlattice="9 0 0 0 9 0 0 0 9"\nZn 0 0 0\n')
    (entry,) = read_all(tmp_path / "x.xyz")
    assert isinstance(entry, Crystal) and entry.cell.diagonal().tolist() == [9, 9, 9]


@pytest.mark.parametrize("symbol", ["T", "X", "C1", "HOH"])
def test_a_symbol_that_is_none_is_refused_by_name(symbol: str, tmp_path: Path) -> None:
    entry = read_xyz(tmp_path, "", "Zn 0 0 0", f"{symbol} 3 0 0")
    assert isinstance(entry, ReadFailure) and entry.reason.startswith("unknown-element: ")
    assert f"atom 2 ({symbol})" in entry.reason


def test_a_symbol_that_may_be_two_atoms_is_told(tmp_path: Path) -> None:
    entry = read_xyz(tmp_path, "", "CO 0 0 0", "HF 3 0 0", "HO 3 3 0", "Co 5 0 0")
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [27, 72, 67, 27]
    (warning,) = entry.warnings
    assert warning.startswith("ambiguous-element: ") and "CO as Co, HF as Hf, HO as Ho" in warning


def test_numbers_that_differ_from_symbols_are_told(tmp_path: Path) -> None:
    columns = f"Properties={COLUMNS['both']}"
    entry = read_xyz(tmp_path, columns, "Zn 0 0 0 30", "O1 3 0 0 8")
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [30, 8] and not entry.warnings
    entry = read_xyz(tmp_path, columns, "Co 0 0 0 30", "O 3 0 0 8")
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [30, 8]
    (warning,) = entry.warnings
    assert warning.startswith("ambiguous-element: ") and "atom 1 (Co, 30)" in warning


def test_numbers_alone_name_elements(tmp_path: Path) -> None:
    entry = read_xyz(tmp_path, f"Properties={COLUMNS['Z']}", "30 0 0 0", "8 3 0 0")
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [30, 8]


def test_a_mark_of_utf_8_is_no_number_of_atoms(tmp_path: Path) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(f"1\n{LATTICE}\nZn 0 0 0\n", encoding="utf-8-sig")
    assert [type(entry) for entry in read_all(path)] == [Crystal]


def test_numbers_behind_colons_elsewhere_are_no_columns(tmp_path: Path) -> None:
    columns = f"Properties={COLUMNS['species']}:descriptors:R:256 source=localhost:8000"
    entry = read_xyz(tmp_path, columns, f"Zn 0 0 0{' 1' * 256}")
    assert isinstance(entry, Crystal)


@pytest.mark.parametrize(
    ("columns", "atom", "words"),
    [
        ("", "O 3.0D+00 0 0", "atom 2: 3.0D+00 is no number; write numbers such as 0.5"),
        ("", "O 3 0", "atom 2 has 3 columns, not 4"),
        ("Properties=species:S:pos:R:3", "O 3 0 0", "Properties is damaged; write it as species:S:1:pos:R:3"),
    ],
)
def test_what_is_wrong_with_a_frame_is_named(columns: str, atom: str, words: str, tmp_path: Path) -> None:
    entry = read_xyz(tmp_path, columns, "Zn 0 0 0", atom)
    assert isinstance(entry, ReadFailure) and entry.reason.startswith(f"bad-xyz: {words}")


@pytest.mark.parametrize("cell", ["9 0 0", "9 0 0 0 9 0 0 0 9.0D+00"])
def test_a_cell_that_is_not_nine_numbers_is_shown(cell: str, tmp_path: Path) -> None:
    (tmp_path / "x.xyz").write_text(f'1\nLattice="{cell}"\nZn 0 0 0\n')
    (entry,) = read_all(tmp_path / "x.xyz")
    assert isinstance(entry, ReadFailure)
    assert entry.reason.startswith(f"bad-xyz: Lattice ({cell}) is not nine numbers; write")
