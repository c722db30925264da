"""Elements of a POSCAR."""

from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import read_all


@pytest.mark.parametrize("symbol", ["CO", "HF", "CF", "ND"])
def test_a_symbol_that_may_be_two_atoms_is_told(symbol: str, tmp_path: Path) -> None:
    (tmp_path / "POSCAR").write_text(
        f"made\n1\n9 0 0\n0 9 0\n0 0 9\nC {symbol}\n1 1\nDirect\n0 0 0\n.5 0 0\n"
    )
    (entry,) = read_all(tmp_path / "POSCAR")
    assert isinstance(entry, Crystal)
    (warning,) = entry.warnings
    assert warning.startswith("ambiguous-element: ") and f"{symbol} as {symbol.capitalize()}" in warning


@pytest.mark.parametrize(
    "tail", ["\nLattice velocities and vectors\n1\n0 0 0\n", "\n0 0 0\n0 0 0\n\n1\n0.5D-01\n"]
)
def test_what_follows_the_atoms_is_passed_over(tail: str, tmp_path: Path) -> None:
    (tmp_path / "CONTCAR").write_text(
        f"made\n1\n9 0 0\n0 9 0\n0 0 9\nC O\n1 1\nDirect\n0 0 0\n.5 0 0\n{tail}"
    )
    (entry,) = read_all(tmp_path / "CONTCAR")
    assert isinstance(entry, Crystal) and entry.n_atoms == 2


def test_a_trajectory_is_no_poscar(tmp_path: Path) -> None:
    frames = "".join(f"Direct configuration= {i}\n0 0 0\n.5 0 0\n" for i in (1, 2))
    (tmp_path / "XDATCAR.vasp").write_text(f"made\n1\n9 0 0\n0 9 0\n0 0 9\nC O\n1 1\n{frames}")
    (entry,) = read_all(tmp_path / "XDATCAR.vasp")
    assert isinstance(entry, ReadFailure) and entry.reason.startswith("bad-poscar: ")
    assert "several structures" in entry.reason


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\n1\n", "\n1.0D+00\n", "line 2 (1.0D+00) does not begin with 1 number; write numbers such as 0.5"),
        ("\n9 0 0", "\n9 0", "line 3 (9 0) does not begin with 3 numbers"),
        (".5 0 0", ".5D+00 0 0", "line 10 (.5D+00 0 0) does not begin with 3 numbers"),
        (".5 0 0\n", "", "its numbers of atoms do not fit its lines"),
    ],
)
def test_a_line_without_its_numbers_is_named(old: str, new: str, words: str, tmp_path: Path) -> None:
    text = "made\n1\n9 0 0\n0 9 0\n0 0 9\nC O\n1 1\nDirect\n0 0 0\n.5 0 0\n"
    (tmp_path / "POSCAR").write_text(text.replace(old, new))
    (entry,) = read_all(tmp_path / "POSCAR")
    assert isinstance(entry, ReadFailure) and entry.reason.startswith(f"bad-poscar: {words}")


@pytest.mark.parametrize("comment", ["Zn O", "Zn1 O2"])
def test_elements_of_an_old_poscar_stand_in_its_comment(tmp_path: Path, comment: str) -> None:
    (tmp_path / "POSCAR").write_text(
        f"{comment}\n1\n9 0 0\n0 9 0\n0 0 9\n1 2\nDirect\n0 0 0\n.5 0 0\n0 .5 0\n"
    )
    (found,) = read_all(tmp_path / "POSCAR")
    assert isinstance(found, Crystal) and found.atomic_numbers.tolist() == [30, 8, 8]


def test_elements_of_a_poscar_may_have_a_comment(tmp_path: Path) -> None:
    (tmp_path / "POSCAR").write_text(
        "made\n1\n9 0 0\n0 9 0\n0 0 9\nZn O ! both\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
    )
    (found,) = read_all(tmp_path / "POSCAR")
    assert isinstance(found, Crystal) and found.atomic_numbers.tolist() == [30, 8]


def test_elements_of_a_poscar_may_be_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "POSCAR").write_text("made\n1\n9 0 0\n0 9 0\n0 0 9\nZN D\n1 1\nDirect\n0 0 0\n.5 0 0\n")
    (found,) = read_all(tmp_path / "POSCAR")
    assert isinstance(found, Crystal) and found.atomic_numbers.tolist() == [30, 1]
    assert found.warnings == ("deuterium: atoms of D were read as H",)


def test_what_a_contcar_has_after_its_atoms_is_left_out(tmp_path: Path) -> None:
    head = "made\n1\n9 0 0\n0 9 0\n0 0 9\nZn\n1\nDirect\n0 0 0\n"
    for after in ("\n0.1 0.2 0.3\n", "Cartesian\n0.1 0.2 0.3\n", "Lattice velocities and vectors\n1\n"):
        (tmp_path / "CONTCAR").write_text(head + after)
        (found,) = read_all(tmp_path / "CONTCAR")
        assert isinstance(found, Crystal) and found.n_atoms == 1
