"""Files of other formats than CIF, and files of several structures."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.db import connect
from ase.io import write
from ase.io.trajectory import Trajectory

from mofgap.crystals import several
from mofgap.crystals.convert import to_ase, to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formats import kind_of, stem_of, without_ending
from mofgap.crystals.inputs import PassedOver, expand_inputs, files_of, passed_over_words, read_all
from mofgap.crystals.item import InputItem, read_input
from mofgap.crystals.write import write_cif
from mofgap.shipped import shipped_folder

ZINC_FORMATE = np.array([30, 8, 6, 8, 1])


def crystal(name: str, edge: float = 6.0) -> Crystal:
    frac = np.array([[0, 0, 0], [0.31, 0.05, 0], [0.5, 0.12, 0], [0.69, 0.05, 0], [0.5, 0.302, 0]])
    return Crystal(np.array([[edge, 0, 0], [0.5, edge, 0], [0, 0.3, edge]]), frac, ZINC_FORMATE, name)


ONE, OTHER = crystal("one"), crystal("other", 6.2)


def write_db(path: Path, crystals: list[Crystal]) -> None:
    with connect(path) as database:
        for each in crystals:
            database.write(to_ase(each), name=each.structure_id)


def write_traj(path: Path, crystals: list[Crystal]) -> None:
    with Trajectory(path, "w") as frames:
        for each in crystals:
            frames.write(to_ase(each))


def write_xyz(path: Path, crystals: list[Crystal]) -> None:
    frames = [to_ase(each) for each in crystals]
    for frame, each in zip(frames, crystals, strict=True):
        frame.info["name"] = each.structure_id
    write(path, frames, format="extxyz")


def write_json(path: Path, crystals: list[Crystal]) -> None:
    rows = [{"name": c.structure_id, "structure": to_pymatgen(c).as_dict()} for c in crystals]
    path.write_text(json.dumps(rows if len(rows) > 1 else rows[0]["structure"]))


Writer = Callable[[Path, list[Crystal]], None]
SEVERAL: dict[str, Writer] = {
    "a.db": write_db,
    "a.traj": write_traj,
    "a.xyz": write_xyz,
    "a.extxyz": write_xyz,
    "a.json": write_json,
}
FORMATS: dict[str, Writer] = {
    **SEVERAL,
    "POSCAR_a": lambda path, crystals: write(path, to_ase(crystals[0]), format="vasp"),
    "a.vasp": lambda path, crystals: write(path, to_ase(crystals[0]), format="vasp"),
    "a.json.gz": lambda path, crystals: path.write_bytes(
        gzip.compress(json.dumps(to_pymatgen(crystals[0]).as_dict()).encode())
    ),
}


def assert_same(found: Crystal, expected: Crystal) -> None:
    """The same atoms at the same places, whatever their order and the direction of the cell."""
    assert sorted(found.atomic_numbers) == sorted(expected.atomic_numbers)
    distances = [np.sort(to_ase(each).get_all_distances(mic=True).ravel()) for each in (found, expected)]
    np.testing.assert_allclose(distances[0], distances[1], atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_a_structure_alone_is_read_and_named_by_its_file(name: str, tmp_path: Path) -> None:
    FORMATS[name](tmp_path / name, [ONE])
    (found,) = read_all(tmp_path / name)
    assert isinstance(found, Crystal)
    assert (found.structure_id, found.source) == (stem_of(name), str(tmp_path / name))
    assert_same(found, ONE)


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("where", ["folder", "archive.zip", "archive.tar", "archive.tar.gz"])
def test_each_of_several_structures_is_an_input(name: str, where: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    SEVERAL[name](folder / name, [ONE, OTHER])
    path, start = folder, f"{folder}/{name}"
    if where != "folder":
        kind = {"archive.tar.gz": "gztar"}.get(where, where.partition(".")[2])
        path = Path(shutil.make_archive(str(tmp_path / "archive"), kind, folder))
        start = f"{path}:{'' if kind == 'zip' else './'}{name}"
    items = [pickle.loads(pickle.dumps(item)) for item in expand_inputs([path])]
    assert [item.source for item in items] == [f"{start}:1", f"{start}:2"]
    found = [entry for item in items for entry in read_input(item)]
    names = ["a-1", "a-2"] if name == "a.traj" else ["one", "other"]
    for entry, expected, structure_id in zip(found, (ONE, OTHER), names, strict=True):
        assert isinstance(entry, Crystal) and entry.structure_id == structure_id
        assert_same(entry, expected)
    assert [item.read() for item in items] == [item.read() for item in expand_inputs([path])]


def test_names_say_formats_and_structures() -> None:
    kinds = {
        "a/b.CIF.GZ": "cif",
        "POSCAR": "poscar",
        "x.zip:CONTCAR-3": "poscar",
        "a.poscar": "poscar",
        "POSCAR.cif": "cif",
        "poscar_to_cif.py": None,
        "a.pckl": None,
        "x.zip:.a.cif": None,
        "a.txt": None,
    }
    assert {name: kind_of(name) for name in kinds} == kinds
    stems = {
        "runs/mof-5/CONTCAR": "mof-5",
        "x.zip:mof-5/POSCAR.gz": "mof-5",
        "CONTCAR": "CONTCAR",
        "POSCAR.mof5": "POSCAR.mof5",
        "mof5.vasp": "mof5",
        "a.b.json.gz": "a.b",
        "A.CIF.GZ": "A",
        "x.zip:mof-5\\w.cif": "w",
        "x.zip:mof-5\\POSCAR": "mof-5",
    }
    assert {name: stem_of(name) for name in stems} == stems
    assert [without_ending(name) for name in ("a.cif", "a.xyz.gz", "a.b")] == ["a", "a", "a.b"]


def test_a_folder_passes_over_what_does_not_look_like_structures(tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(write_cif(ONE))
    write_json(tmp_path / "b.json", [ONE])
    write_xyz(tmp_path / "c.xyz", [ONE])
    (tmp_path / "molecule.xyz").write_text("1\nwater\nO 0 0 0\n")
    (tmp_path / "results.json").write_text('[{"rank": 1}]')
    (tmp_path / "thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (tmp_path / "md.traj").write_bytes(b"GROMACS")
    for name in ("notes.txt", "more.txt", ".hidden.txt", "README"):
        (tmp_path / name).write_text("words")
    expected = [str(tmp_path / name) for name in ("a.cif", "b.json", "c.xyz")]
    for name in (
        str(tmp_path),
        f"{tmp_path}/*",
        shutil.make_archive(str(tmp_path) + "-all", "zip", tmp_path),
    ):
        passed_over = PassedOver()
        found = [item.source for item in expand_inputs([name], passed_over=passed_over)]
        assert [Path(source.replace(":", "/")).name for source in found] == ["a.cif", "b.json", "c.xyz"]
        assert passed_over == {".txt": 2, ".xyz": 1, ".json": 1, "": 1, ".db": 1, ".traj": 1}
    words = passed_over_words(passed_over)
    assert "7 files that hold no" in words and "2 .txt" in words and "1 without ending" in words
    assert passed_over_words(PassedOver({".txt": 1})).startswith("skipped 1 file that holds no structure")
    assert passed_over_words(PassedOver({".txt": 1}), "send it").endswith("to read such a file, send it")
    assert set(expected) <= set(files_of(str(tmp_path)))


def test_what_is_named_is_tried(tmp_path: Path) -> None:
    (tmp_path / "molecule.xyz").write_text("1\nwater\nO 0 0 0\n")
    (tmp_path / "results.json").write_text('[{"rank": 1}]')
    for name, reason in (("molecule.xyz", "no-cell"), ("results.json", "bad-record")):
        for path in (tmp_path / name, f"{tmp_path}/*.{name[-4:].strip('.')}"):
            (entry,) = [e for item in expand_inputs([path]) for e in read_input(item)]
            assert isinstance(entry, ReadFailure) and entry.reason.startswith(f"{reason}: ")
            assert entry.source == str(tmp_path / name)


def database(path: Path, sql: str) -> None:
    with sqlite3.connect(path) as found:
        found.executescript(sql)


FAR_ELEMENT = json.dumps({"cell": np.eye(3).tolist(), "numbers": [10**20], "positions": [[0, 0, 0]]})
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id FROM n"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.db", "no database", "bad-database"),
        ("a.db", f"CREATE VIEW systems AS {ENDLESS};", "bad-database"),
        ("a.db", "CREATE TABLE other (id INTEGER);", "bad-database"),
        ("a.traj", "no trajectory", "bad-trajectory"),
        ("a.json", "{", "bad-json"),
        ("a.json", "[]", "no-structures"),
        ("a.json", '{"lattice": {}, "sites": [{}]}', "bad-structure"),
        ("a.json", '{"columns": ["structure"], "index": 1, "data": []}', "bad-json"),
        ("a.json", '{"index": [1], "columns": 1, "data": []}', "bad-json"),
        ("a.json", '{"index": [1], "columns": [1]}', "bad-json"),
        ("a.json", FAR_ELEMENT, "bad-structure"),
        ("a.xyz", "", "no-structures"),
        ("a.xyz", "words\n", "bad-xyz"),
        ("a.xyz", "0", "bad-xyz"),
        ("a.xyz", '2\nLattice="9 0 0 0 9 0 0 0 9"\nZn 0 0 0\n', "bad-xyz"),
        ("a.xyz", '2\nLattice="9 0 0 0 9 0 0 0 9"\nZn 0 0 0\nZn 0 0 x\n', "bad-xyz"),
        ("a.xyz", '2\nLattice="9 0 0 0 9 0 0 0 9"\nZn 0 0 0\nZn 0 0 0.1\n', "overlapping-atoms"),
        ("a.xyz", '1\nLattice="9 0 0 0 9 0 0 0 9" pbc="T T F"\nZn 0 0 0\n', "no-cell"),
        ("POSCAR", "Zn\n1\n9 0 0\n0 9 0\n0 0 9\nZn\n", "bad-poscar"),
        ("POSCAR", "made\n1\n9 0 0\n0 9 0\n0 0 9\n1\nDirect\n0 0 0\n", "bad-poscar"),
        ("POSCAR", "In a box\n1\n9 0 0\n0 9 0\n0 0 9\n1\nDirect\n0 0 0\n", "bad-poscar"),
        ("POSCAR", "made\n1\n9 0 0\n0 9 0\n0 0 9\nZn\n999999999\nDirect\n0 0 0\n", "too-many-atoms"),
        ("POSCAR", "made\n1\n9 0 0\n0 9 0\n0 0 9\nZn\n1\nDirect\n0 0 0\n0.5 0 0\n", "bad-poscar"),
        ("POSCAR", "Zn\n1\n9 0 0\n0 9 0\n0 0 9\n1\nSel\nDirect\n0 0 0 T T T\n0 0 .5 F F F\n", "bad-poscar"),
    ],
)
def test_what_cannot_be_read_is_a_failure(name: str, content: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content.startswith("CREATE"):
        database(path, content)
    else:
        path.write_text(content)
    before = path.read_bytes()
    (entry,) = read_all(path)
    assert isinstance(entry, ReadFailure)
    assert entry.reason.startswith(f"{reason}: ")
    assert entry.source == str(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", SEVERAL)
def test_structures_that_are_many_and_tiny_are_refused_after_some(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    FORMATS[name](path, [ONE, OTHER, ONE, OTHER])
    monkeypatch.setattr(several, "MOST_SMALL", 3)
    assert len(list(expand_inputs([path]))) == 4
    monkeypatch.setattr(several, "LEAST_BYTES", path.stat().st_size)
    *items, refused = expand_inputs([path])
    assert len(items) == 3 and isinstance(refused, ReadFailure)
    assert refused.reason.startswith("too-many-structures: ") and " 3 structures" in refused.reason


def test_a_database_row_of_more_bytes_than_memory_may_take_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    write_db(path, [ONE, OTHER])
    with sqlite3.connect(path) as found:
        found.execute("UPDATE systems SET positions = zeroblob(20000000) WHERE id = 2")
    first, second = read_all(path)
    assert isinstance(first, Crystal) and isinstance(second, ReadFailure)
    assert second.reason.startswith("bad-database: ") and "too big" in second.reason


class Trap:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("name", ["a.traj", "a.db", "a.json", "a.xyz", "a.pckl", "POSCAR", "a.traj.gz"])
def test_nothing_is_unpickled(name: str, tmp_path: Path) -> None:
    content = pickle.dumps(Trap())
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert all(isinstance(entry, ReadFailure) for entry in read_all(tmp_path / name))


def test_what_stands_before_the_damage_is_read(tmp_path: Path) -> None:
    write_xyz(tmp_path / "a.xyz", [ONE, OTHER])
    (tmp_path / "a.xyz").write_bytes((tmp_path / "a.xyz").read_bytes()[:-60])
    good, bad = expand_inputs([tmp_path / "a.xyz"])
    assert isinstance(good, InputItem) and isinstance(read_input(good)[0], Crystal)
    assert good.source.endswith("a.xyz:1")
    assert isinstance(bad, ReadFailure) and bad.reason.startswith("bad-xyz: structure 2")


def test_a_cell_that_is_too_large_is_refused(tmp_path: Path) -> None:
    for name, write_one in FORMATS.items():
        write_one(tmp_path / name, [ONE])
        (entry,) = read_all(tmp_path / name, max_atoms=4)
        assert isinstance(entry, ReadFailure) and entry.reason.startswith("too-many-atoms: 5 ")


def test_threads_read_one_trajectory_at_once(tmp_path: Path) -> None:
    (crystal,) = read_all(shipped_folder("examples") / "Hofmann-FeNi_LUFQUZ.cif")
    assert isinstance(crystal, Crystal)
    frames = [replace(crystal, cell=crystal.cell * (1 + 0.01 * i)) for i in range(20)]
    write_traj(tmp_path / "a.traj", frames)

    def cells() -> list[float]:
        return [entry.cell[0, 0] if isinstance(entry, Crystal) else np.nan for entry in read_all(path)]

    path = tmp_path / "a.traj"
    with ThreadPoolExecutor(4) as pool:
        found = [task.result() for task in [pool.submit(cells) for _ in range(8)]]
    for each in found:
        assert each == pytest.approx([frame.cell[0, 0] for frame in frames])
