"""Every format gives back the frameworks that it was made of."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ase.db import connect
from ase.io import write as write_ase
from monty.json import MontyEncoder
from pymatgen.core import Structure

from mofgap.crystals.convert import to_ase, to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.write import write_cif
from mofgap.datasets.formats import format_of, read_structures
from mofgap.datasets.record import DatasetError, Record

GAPS_EV = (0.4, 3.25, 3.5, 3.125)


def read(path: Path, id_name: str | None = None) -> list[Record | ReadFailure]:
    return list(read_structures(path, format_of(path), 1000, id_name))


def records(path: Path) -> list[Record]:
    return [entry for entry in read(path) if isinstance(entry, Record)]


def assert_same(found: list[Record], crystals: list[Crystal], tolerance: float = 1e-6) -> None:
    assert [record.crystal.structure_id for record in found] == [c.structure_id for c in crystals]
    for record, crystal in zip(found, crystals, strict=True):
        assert record.crystal.atomic_numbers.tolist() == crystal.atomic_numbers.tolist()
        shift = record.crystal.frac_coords - crystal.frac_coords
        shift -= np.round(shift)
        assert np.abs(shift @ crystal.cell).max() < tolerance
        lengths = [np.linalg.norm(cell, axis=1) for cell in (record.crystal.cell, crystal.cell)]
        assert np.abs(lengths[0] - lengths[1]).max() < tolerance


def zipped(members: Mapping[str, bytes], folder: str = "") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{folder}{name}", data)
    return content.getvalue()


class TestCifs:
    def test_of_a_folder_and_of_an_archive(self, tmp_path: Path, crystals: list[Crystal]) -> None:
        folder = tmp_path / "cifs"
        folder.mkdir()
        for crystal in crystals:
            (folder / f"{crystal.structure_id}.cif").write_text(write_cif(crystal))
        archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
        for path in (folder, archive):
            assert format_of(path) == "cifs"
            assert_same(records(path), crystals, tolerance=1e-4)

    def test_packed_one_by_one_beside_another_file(self, tmp_path: Path, crystals: list[Crystal]) -> None:
        path = tmp_path / "packed.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.json", "{}")
            for crystal in crystals:
                archive.writestr(f"{crystal.structure_id}.cif.gz", gzip.compress(write_cif(crystal).encode()))
        assert format_of(path) == "cifs"
        assert_same(records(path), crystals, tolerance=1e-4)


def jarvis_atoms(crystal: Crystal, cartesian: bool = False) -> dict[str, Any]:
    structure = to_pymatgen(crystal)
    return {
        "lattice_mat": crystal.cell.tolist(),
        "coords": (crystal.cart_coords if cartesian else crystal.frac_coords).tolist(),
        "elements": [site.specie.symbol for site in structure],
        "abc": list(structure.lattice.abc),
        "angles": list(structure.lattice.angles),
        "cartesian": cartesian,
        "props": [""] * crystal.n_atoms,
    }


class TestJson:
    @pytest.mark.parametrize("cartesian", [False, True])
    @pytest.mark.parametrize("ending", [".json", ".json.gz", ".json.zip", ".zip"])
    def test_of_jarvis(self, tmp_path: Path, crystals: list[Crystal], ending: str, cartesian: bool) -> None:
        rows = [
            {
                "jid": c.structure_id,
                "atoms": jarvis_atoms(c, cartesian),
                "optb88vdw_bandgap": gap,
                "hse": "na",
            }
            for c, gap in zip(crystals, GAPS_EV, strict=True)
        ]
        text = json.dumps(rows).encode()
        path = tmp_path / f"jarvis{ending}"
        if ending.endswith(".zip"):
            path.write_bytes(zipped({"jarvis.json": text}))
        else:
            path.write_bytes(gzip.compress(text) if ending.endswith(".gz") else text)
        assert format_of(path) == "json"
        found = records(path)
        assert_same(found, crystals)
        assert [record.values["optb88vdw_bandgap"] for record in found] == list(GAPS_EV)
        assert found[0].values["hse"] == "na"

    def test_of_packed_lines(self, tmp_path: Path, structure_dicts: list[dict[str, Any]]) -> None:
        lines = (json.dumps({"id": f"j{i}", "structure": s}) for i, s in enumerate(structure_dicts))
        (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
        found = records(tmp_path / "m.jsonl.gz")
        assert [record.crystal.structure_id for record in found] == ["j0", "j1", "j2", "j3"]

    def test_of_matminer(self, tmp_path: Path, crystals: list[Crystal]) -> None:
        frame = pd.DataFrame(
            {
                "structure": [to_pymatgen(c) for c in crystals],
                "gap pbe": [GAPS_EV[0], np.nan, *GAPS_EV[2:]],
                "composition": [to_pymatgen(c).composition for c in crystals],
            },
            index=[c.structure_id for c in crystals],
        )
        # As matminer's store_dataframe_as_json does it.
        text = json.dumps(frame.to_dict(orient="split"), cls=MontyEncoder)
        assert "NaN" in text
        (tmp_path / "m.json").write_text(text)
        found = records(tmp_path / "m.json")
        assert_same(found, crystals)
        assert found[0].values["gap pbe"] == GAPS_EV[0]
        assert np.isnan(found[1].values["gap pbe"])
        assert not any(record.numbered for record in found)

    def test_with_columns_behind_the_data_and_numbers_for_an_index(
        self, tmp_path: Path, structure_dicts: list[dict[str, Any]]
    ) -> None:
        text = {
            "data": [[s, 1.0] for s in structure_dicts],
            "columns": ["structure", "gap"],
            "index": [0, 1, 2, 3],
        }
        (tmp_path / "m.json").write_text(json.dumps(text))
        found = records(tmp_path / "m.json")
        assert [record.crystal.structure_id for record in found] == ["m-1", "m-2", "m-3", "m-4"]
        assert all(record.numbered for record in found)
        assert found[0].values["gap"] == 1.0

    def test_of_objects_by_identifier_with_structures_as_text(
        self, tmp_path: Path, crystals: list[Crystal], structure_dicts: list[dict[str, Any]]
    ) -> None:
        rows = {
            c.structure_id: {"structure": json.dumps(s), "outputs": {"pbe": {"bandgap": gap}}}
            for c, s, gap in zip(crystals, structure_dicts, GAPS_EV, strict=True)
        }
        (tmp_path / "m.json").write_text(json.dumps(rows))
        found = records(tmp_path / "m.json")
        assert_same(found, crystals)
        assert found[3].values["outputs.pbe.bandgap"] == GAPS_EV[3]

    def test_an_identifier_that_nothing_has_is_named(
        self, tmp_path: Path, structure_dicts: list[dict[str, Any]]
    ) -> None:
        rows = [{"jid": f"j{i}", "structure": each} for i, each in enumerate(structure_dicts)]
        (tmp_path / "m.json").write_text(json.dumps(rows))
        assert records(tmp_path / "m.json")[0].crystal.structure_id == "j0"
        with pytest.raises(DatasetError, match=r"m\.json: no column 'jjid'; did you mean 'jid'"):
            read(tmp_path / "m.json", "jjid")

    @pytest.mark.parametrize("properties", ["[1]", '"text"', "5", '{"charge": 1%s}' % ("0" * 400)])
    def test_damaged_properties_of_sites_cost_no_other_structure(
        self, tmp_path: Path, structure_dicts: list[dict[str, Any]], properties: str
    ) -> None:
        sites = [{**site, "properties": json.loads(properties)} for site in structure_dicts[0]["sites"]]
        rows = [{"id": "odd", "structure": {**structure_dicts[0], "sites": sites}}]
        rows.append({"id": "sound", "structure": structure_dicts[1]})
        (tmp_path / "m.json").write_text(json.dumps(rows))
        odd, sound = read(tmp_path / "m.json")
        assert isinstance(odd, ReadFailure) and odd.reason.startswith("bad-structure: ")
        assert isinstance(sound, Record)

    def test_lists_what_is_no_structure(self, tmp_path: Path, structure_dicts: list[dict[str, Any]]) -> None:
        rows = [
            {"id": "none", "gap": 1.0},
            {"id": "two", "relaxed": structure_dicts[0], "unrelaxed": structure_dicts[0]},
            {
                "id": "atoms",
                "atoms": {"lattice_mat": [[1, 0], [0, 1]], "coords": [[0, 0, 0]], "elements": ["Zn"]},
            },
            {"id": "element", "atoms": {**FLAT, "elements": ["Qq"]}},
            {"id": "cell", "atoms": {**FLAT, "lattice_mat": [[9, 0, 0], [0, 9, 0], [9, 9, 0]]}},
            {"id": "nan", "atoms": {**FLAT, "coords": [[0, 0, float("nan")]]}},
            {"id": "many", "atoms": {**FLAT, "coords": [[0, 0, 0], [0.5, 0, 0]]}},
            17,
        ]
        (tmp_path / "m.json").write_text(json.dumps(rows))
        entries = read(tmp_path / "m.json")
        assert all(isinstance(entry, ReadFailure) for entry in entries)
        reasons = {entry.structure_id: entry.reason for entry in entries if isinstance(entry, ReadFailure)}
        assert reasons["none"].startswith("bad-record: ")
        assert reasons["two"].endswith("found relaxed, unrelaxed")
        assert reasons["atoms"].startswith("bad-structure")
        assert reasons["element"].startswith("unknown-element: 'Qq'")
        assert reasons["cell"].startswith("bad-cell")
        assert reasons["nan"].startswith("bad-structure: a coordinate")
        assert reasons["many"].startswith("bad-structure: 1 elements and 2 positions")

    @pytest.mark.parametrize(
        "text", ["", "17", "[{}, ", '{"columns": ["a"], "data": [[1, 2]]}', '{"data": []}']
    )
    def test_that_is_none_names_the_file(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(DatasetError, match=r"m\.json: "):
            read(tmp_path / "m.json")


FLAT: dict[str, Any] = {
    "lattice_mat": [[9, 0, 0], [0, 9, 0], [0, 0, 9]],
    "coords": [[0, 0, 0]],
    "elements": ["Zn"],
}


class TestAse:
    @pytest.mark.parametrize("name", ["a.db", "a.json"])
    def test_databases(self, tmp_path: Path, crystals: list[Crystal], name: str) -> None:
        with connect(tmp_path / name) as database:
            for crystal, gap in zip(crystals, GAPS_EV, strict=True):
                database.write(
                    to_ase(crystal), qmof_id=crystal.structure_id, gap=gap, data={"hse": {"gap": gap + 1}}
                )
        assert format_of(tmp_path / name) == "ase"
        found = records(tmp_path / name)
        assert_same(found, crystals)
        assert [record.values["gap"] for record in found] == list(GAPS_EV)
        assert found[0].values["hse.gap"] == GAPS_EV[0] + 1

    def test_frames_of_xyz(self, tmp_path: Path, crystals: list[Crystal]) -> None:
        frames = [to_ase(crystal) for crystal in crystals]
        for frame, crystal, gap in zip(frames, crystals, GAPS_EV, strict=True):
            frame.info |= {"qmof_id": crystal.structure_id, "gap": gap}
        write_ase(tmp_path / "a.xyz", frames, format="extxyz")
        found = records(tmp_path / "a.xyz")
        assert_same(found, crystals, tolerance=1e-4)
        assert [record.values["gap"] for record in found] == pytest.approx(list(GAPS_EV))

    def test_packed_frames_of_xyz(self, tmp_path: Path, crystals: list[Crystal]) -> None:
        write_ase(tmp_path / "a.xyz.gz", list(map(to_ase, crystals)), format="extxyz")
        assert [record.crystal.structure_id for record in records(tmp_path / "a.xyz.gz")] == [
            *("a-1", "a-2", "a-3", "a-4")
        ]

    def test_frames_without_identifier_are_numbered_and_molecules_listed(
        self, tmp_path: Path, crystals: list[Crystal]
    ) -> None:
        frames = [to_ase(crystals[0]), to_ase(crystals[1])]
        frames[1].pbc = False
        frames[1].cell[:] = 0
        write_ase(tmp_path / "a.xyz", frames, format="extxyz")
        first, second = read(tmp_path / "a.xyz")
        assert isinstance(first, Record) and first.numbered and first.crystal.structure_id == "a-1"
        with pytest.raises(DatasetError, match=r"a\.xyz: no column 'qmof_id'"):
            read(tmp_path / "a.xyz", "qmof_id")
        assert isinstance(second, ReadFailure) and second.reason.startswith("no-cell")

    @pytest.mark.parametrize(("name", "text"), [("a.db", "no database"), ("a.xyz", "3\nhalf\nZn 0 0 0\n")])
    def test_damaged_files_are_named(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        with pytest.raises(DatasetError, match=f"{name}: ASE cannot read"):
            read(tmp_path / name)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_text("")
    with pytest.raises(DatasetError, match=r"a\.docx: unknown kind of file"):
        format_of(tmp_path / "a.docx")


def test_large_cells_are_listed(tmp_path: Path, structure_dicts: list[dict[str, Any]]) -> None:
    (tmp_path / "m.json").write_text(json.dumps([{"id": "big", "structure": structure_dicts[0]}]))
    (entry,) = read_structures(tmp_path / "m.json", "json", max_atoms=10)
    assert isinstance(entry, ReadFailure)
    assert entry.reason.startswith("too-many-atoms")


def test_the_dictionaries_are_those_of_pymatgen(
    structure_dicts: list[dict[str, Any]], crystals: list[Crystal]
) -> None:
    assert Structure.from_dict(structure_dicts[0]).composition == to_pymatgen(crystals[0]).composition
