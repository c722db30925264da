"""Structures of JSON files as pymatgen, JARVIS and ASE write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import Entry, ReadFailure
from mofgap.crystals.inputs import read_all

CELL = (9 * np.eye(3)).tolist()
PLACES = [[0, 0, 0], [0.3, 0, 0]]


def jarvis(symbols: list[str]) -> dict[str, Any]:
    return {"lattice_mat": CELL, "coords": PLACES, "elements": symbols}


def pymatgen(symbols: list[str]) -> dict[str, Any]:
    rows = zip(symbols, PLACES, strict=True)
    sites = [{"species": [{"element": each, "occu": 1}], "abc": place} for each, place in rows]
    return {"lattice": {"matrix": CELL, "pbc": [True] * 3}, "sites": sites}


FORMS = pytest.mark.parametrize("form", [jarvis, pymatgen])


def read(tmp_path: Path, data: dict[str, Any]) -> Entry:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    (entry,) = read_all(path)
    return entry


@FORMS
@pytest.mark.parametrize("symbol", ["H2O", "CO2", "C-O", "H-O", "P-O", "ND4", "CF3", "Zn0.5", "Zn/Co", "X0+"])
def test_what_is_no_element_is_refused_by_name(form: Any, symbol: str, tmp_path: Path) -> None:
    entry = read(tmp_path, form(["Zn", symbol]))
    assert isinstance(entry, ReadFailure) and entry.reason.startswith(f"unknown-element: '{symbol}' ")


@FORMS
def test_charges_are_read_and_groups_of_atoms_and_deuterium_told(form: Any, tmp_path: Path) -> None:
    entry = read(tmp_path, form(["Zn2+", "O0+"]))
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [30, 8] and not entry.warnings
    entry = read(tmp_path, form(["Zn", "D"]))
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [30, 1]
    assert [text.split(":")[0] for text in entry.warnings] == ["deuterium"]
    entry = read(tmp_path, form(["CO", "O"]))
    assert isinstance(entry, Crystal) and entry.atomic_numbers.tolist() == [27, 8]
    assert [text.split(":")[0] for text in entry.warnings] == ["ambiguous-element"]


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("cell", [1, 2], "a damaged structure (values of another kind or number than"),
        ("positions", {"array": {}}, "a damaged structure ('__ndarray__' is missing)"),
        ("numbers", ["a", "b"], "cell, positions or elements are no numbers, or too few"),
    ],
)
def test_a_damaged_structure_of_ase_is_refused_in_plain_words(
    part: str, value: object, words: str, tmp_path: Path
) -> None:
    entry = read(tmp_path, {"cell": CELL, "positions": PLACES, "numbers": [30, 8]} | {part: value})
    assert isinstance(entry, ReadFailure) and entry.reason.startswith(f"bad-structure: {words}")
    assert entry.reason.endswith("; write it again")
