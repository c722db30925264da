from __future__ import annotations

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from ase.db import connect
from pymatgen.core import Lattice, Structure

from mofgap.crystals.convert import to_ase, to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import read_all
from tests.crystals.test_several import ONE, OTHER, assert_same, crystal


def test_json_comes_in_several_shapes(tmp_path: Path) -> None:
    one, other = (to_pymatgen(each).as_dict() for each in (ONE, OTHER))
    with connect(tmp_path / "ase.json") as database:
        database.write(to_ase(ONE), qmof_id="one")
        database.write(to_ase(OTHER), qmof_id="other")
    shapes = {
        "list.json": [one, other],
        "names.json": {"one": one, "other": other},
        "frame.json": {"data": [[one], [other]], "columns": ["structure"], "index": ["one", "other"]},
    }
    for name, shape in shapes.items():
        (tmp_path / name).write_text(json.dumps(shape))
    for name in (*shapes, "ase.json"):
        found = list(read_all(tmp_path / name))
        expected = ["list-1", "list-2"] if name == "list.json" else ["one", "other"]
        assert [entry.structure_id for entry in found] == expected
        for entry, each in zip(found, (ONE, OTHER), strict=True):
            assert isinstance(entry, Crystal)
            assert_same(entry, each)


@pytest.mark.parametrize("first", ["builder_meta", "composition"])
def test_one_json_object_may_begin_with_another_than_its_structure(tmp_path: Path, first: str) -> None:
    one = to_pymatgen(ONE).as_dict()
    behind = one if first == "composition" else {"nsites": 4, "structure": one, "material_id": "mp-1"}
    (tmp_path / "a.json").write_text(json.dumps({first: {"Zn": 1}} | behind))
    (found,) = read_all(tmp_path / "a.json")
    assert isinstance(found, Crystal)
    assert_same(found, ONE)


@pytest.mark.parametrize("first", [("data",), ("index", "data"), ("columns",), ("index", "columns")])
def test_one_json_object_is_no_dataframe_that_lacks_columns_or_data(
    tmp_path: Path, first: tuple[str, ...]
) -> None:
    text = json.dumps({key: [1, 2] for key in first} | {"structure": to_pymatgen(ONE).as_dict()})
    for n in (1, 2):  # two are JSON Lines
        (tmp_path / "a.json").write_text(text * n)
        entries = list(read_all(tmp_path / "a.json"))
        assert len(entries) == n
        for found in entries:
            assert isinstance(found, Crystal)
            assert_same(found, ONE)


@pytest.mark.parametrize("first", ["index", "data"])
def test_json_lines_may_begin_with_a_column_that_a_dataframe_has_too(tmp_path: Path, first: str) -> None:
    """As those of pandas do, whose ``reset_index`` names a column ``index``."""
    rows = [{first: i, "structure": to_pymatgen(each).as_dict()} for i, each in enumerate((ONE, OTHER))]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for found, each in zip(read_all(tmp_path / "a.jsonl"), (ONE, OTHER), strict=True):
        assert isinstance(found, Crystal)
        assert_same(found, each)


def test_json_rows_may_begin_with_one_that_holds_no_structure(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"bad": {"gap": 1}, "one": to_pymatgen(ONE).as_dict()}))
    failure, found = read_all(tmp_path / "a.json")
    assert isinstance(failure, ReadFailure) and isinstance(found, Crystal) and found.structure_id == "one"


@pytest.mark.parametrize(
    ("name", "keys", "first"),
    [("crystal", "01", True), ("crystal", "01", False), ("structure", "01", False), ("atoms", "ab", False)],
)
def test_a_dataframe_by_columns_is_called_so(tmp_path: Path, name: str, keys: str, first: bool) -> None:
    columns: list[dict[str, object]] = [{name: dict.fromkeys(keys, to_pymatgen(ONE).as_dict())}]
    columns.insert(first, {"gap": dict.fromkeys(keys, 1.0)})
    (tmp_path / "a.json").write_text(json.dumps(columns[0] | columns[1]))
    (found,) = read_all(tmp_path / "a.json")
    assert isinstance(found, ReadFailure) and found.reason.startswith("bad-json: a dataframe by columns, ")


@pytest.mark.parametrize("place", [0, 1])
def test_a_missing_structure_costs_no_other(tmp_path: Path, place: int) -> None:
    rows: list[object] = [to_pymatgen(crystal("a")).as_dict(), to_pymatgen(crystal("b")).as_dict()]
    rows.insert(place, None)
    for name, content in (("list", rows), ("object", dict(zip("xyz", rows, strict=True)))):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        found = list(read_all(path))
        assert [isinstance(entry, ReadFailure) for entry in found] == [row is None for row in rows]


@pytest.mark.parametrize("more", [{}, {"id": "X1"}, {"final_energy": -1.5}])
def test_one_object_may_begin_with_a_field_without_a_value(tmp_path: Path, more: dict[str, object]) -> None:
    content = {"note": None, "final_structure": to_pymatgen(crystal("a")).as_dict(), **more}
    (tmp_path / "one.json").write_text(json.dumps(content))
    (found,) = read_all(tmp_path / "one.json")
    assert isinstance(found, Crystal) and found.structure_id == "one"


def test_a_row_that_fails_keeps_its_identifier(tmp_path: Path) -> None:
    sound = to_pymatgen(crystal("a")).as_dict()
    disordered = Structure(Lattice.cubic(5), [{"Zn": 0.5, "Co": 0.5}], [[0, 0, 0]]).as_dict()
    near = Structure(Lattice.cubic(5), ["Zn", "O"], [[0, 0, 0], [0.05, 0, 0]])
    rows = [{"qmof_id": name, "structure": row} for name, row in (("q1", sound), ("q2", disordered))]
    (tmp_path / "t.json").write_text(json.dumps([*rows, {"qmof_id": "q3", "structure": near.as_dict()}]))
    found = list(read_all(tmp_path / "t.json"))
    assert [entry.structure_id for entry in found] == ["q1", "q2", "q3"]
    assert [isinstance(entry, ReadFailure) for entry in found] == [False, True, True]


def test_json_lines_are_structures_and_nothing_is_lost_behind_a_list(tmp_path: Path) -> None:
    one, other = (to_pymatgen(each).as_dict() for each in (ONE, OTHER))
    rows = [{"structure_id": f"r{i}", "structure": each} for i, each in enumerate((one, other, one))]
    (tmp_path / "lines.json").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert [entry.structure_id for entry in read_all(tmp_path / "lines.json")] == ["r0", "r1", "r2"]
    for name in ("lines.jsonl", "lines.ndjson"):
        (tmp_path / name).write_bytes((tmp_path / "lines.json").read_bytes())
        (tmp_path / f"{name}.xz").write_bytes(lzma.compress((tmp_path / name).read_bytes()))
        for path in (tmp_path / name, tmp_path / f"{name}.xz"):
            assert [entry.structure_id for entry in read_all(path)] == ["r0", "r1", "r2"]
    (tmp_path / "lists.json").write_text(f"{json.dumps(rows[:1])}\n{json.dumps(rows[1:])}\n")
    found, failure = read_all(tmp_path / "lists.json")
    assert isinstance(found, Crystal) and isinstance(failure, ReadFailure)
    assert failure.reason.startswith("bad-json: '[' follows")


def test_disorder_and_slabs_are_refused_in_json(tmp_path: Path) -> None:
    mixed = Structure(Lattice.cubic(9), [{"Zn": 0.5, "Mg": 0.5}], [[0, 0, 0]])
    slab = Structure(Lattice(np.eye(3) * 9, pbc=(True, True, False)), ["Zn"], [[0, 0, 0]])
    for structure, reason in ((mixed, "partial-occupancy"), (slab, "no-cell")):
        (tmp_path / "a.json").write_text(json.dumps(structure.as_dict()))
        (entry,) = read_all(tmp_path / "a.json")
        assert isinstance(entry, ReadFailure) and entry.reason.startswith(f"{reason}: ")
