from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.write import write_cif
from mofgap.datasets import qmof
from mofgap.datasets.formats import format_of
from mofgap.datasets.record import DatasetError
from tests.datasets.test_formats import GAPS_EV, assert_same, read, records, zipped

COLUMNS = {"outputs.pbe.bandgap": "pbe_gap_ev", "?name": "name"}


@pytest.fixture
def members(crystals: list[Crystal], structure_dicts: list[dict[str, Any]]) -> dict[str, bytes]:
    """Files of a QMOF download, by name."""
    names = [c.structure_id for c in crystals]
    entries = [
        {"qmof_id": name, "name": f"REFCOD{i}", "structure": structure}
        for i, (name, structure) in enumerate(zip(names, structure_dicts, strict=True))
    ]
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerow(["qmof_id", "name", "info.formula", "info.mofid.smiles", "outputs.pbe.bandgap"])
    # In another order than the structures.
    for i in (2, 0, 3, 1):
        rows.writerow([names[i], f"REFCOD{i}", "X", "O=C,[Zn]", GAPS_EV[i]])
    nested = [
        {"qmof_id": names[i], "name": f"REFCOD{i}", "outputs": {"pbe": {"bandgap": GAPS_EV[i]}}}
        for i in (3, 1, 0, 2)
    ]
    cifs = io.BytesIO()
    with zipfile.ZipFile(cifs, "w", zipfile.ZIP_DEFLATED) as archive:
        for crystal in crystals:
            archive.writestr(f"relaxed_structures/{crystal.structure_id}.cif", write_cif(crystal))
    return {
        "qmof.csv": table.getvalue().encode(),
        "qmof.json": json.dumps(nested).encode(),
        "qmof_structure_data.json": json.dumps(entries).encode(),
        "relaxed_structures.zip": cifs.getvalue(),
    }


def downloads(members: dict[str, bytes], tmp_path: Path) -> Iterator[Path]:
    """The database as it is published and as people unpack it."""
    database = zipped(members, "qmof_database/")
    (tmp_path / "qmof_database.zip").write_bytes(database)
    yield tmp_path / "qmof_database.zip"
    (tmp_path / "13147324.zip").write_bytes(zipped({"qmof_database.zip": database, "README.txt": b"-"}))
    yield tmp_path / "13147324.zip"
    for name in ("unpacked", "unpacked/inner"):
        (tmp_path / name).mkdir()
    for name, data in members.items():
        (tmp_path / "unpacked" / "inner" / name).write_bytes(data)
    yield tmp_path / "unpacked"
    yield tmp_path / "unpacked" / "inner"


class TestQmof:
    def test_is_read_as_published_and_unpacked(
        self, members: dict[str, bytes], crystals: list[Crystal], tmp_path: Path
    ) -> None:
        for path in downloads(members, tmp_path):
            assert format_of(path) == "qmof"
            assert_same(records(path), crystals)
            labels = qmof.read_labels_of(path, COLUMNS).rows
            assert [float(labels[c.structure_id]["pbe_gap_ev"]) for c in crystals] == list(GAPS_EV)
            assert labels["qmof-000000c"]["name"] == "REFCOD2"

    def test_without_its_json_is_read_from_cifs_and_nested_labels(
        self, members: dict[str, bytes], crystals: list[Crystal], tmp_path: Path
    ) -> None:
        del members["qmof_structure_data.json"], members["qmof.csv"]
        for path in downloads(members, tmp_path):
            assert_same(records(path), crystals, tolerance=1e-4)
            labels = qmof.read_labels_of(path, COLUMNS).rows
            assert [labels[c.structure_id]["pbe_gap_ev"] for c in crystals] == list(GAPS_EV)

    def test_is_read_from_a_folder_of_cifs(
        self, members: dict[str, bytes], crystals: list[Crystal], tmp_path: Path
    ) -> None:
        (tmp_path / "qmof.csv").write_bytes(members["qmof.csv"])
        with zipfile.ZipFile(io.BytesIO(members["relaxed_structures.zip"])) as archive:
            archive.extractall(tmp_path)
        assert_same(records(tmp_path), crystals, tolerance=1e-4)

    def test_gives_quantities_of_atoms_that_every_atom_has(
        self, members: dict[str, bytes], tmp_path: Path
    ) -> None:
        (tmp_path / "q.zip").write_bytes(zipped(members))
        found = records(tmp_path / "q.zip")
        assert found[0].atoms["pbe_ddec6_charge_e"][:6].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 0.0]
        assert set(found[-1].atoms) == {"pbe_magmom_mu_b"}

    def test_without_structures_says_what_is_missing(self, members: dict[str, bytes], tmp_path: Path) -> None:
        (tmp_path / "q.zip").write_bytes(zipped({"qmof.csv": members["qmof.csv"]}))
        with pytest.raises(DatasetError, match=r"q\.zip: neither qmof_structure_data\.json nor"):
            read(tmp_path / "q.zip")

    def test_cut_short_is_said_to_be_damaged(self, members: dict[str, bytes], tmp_path: Path) -> None:
        whole = members["qmof_structure_data.json"]
        (tmp_path / "q.zip").write_bytes(zipped({**members, "qmof_structure_data.json": whole[:-900]}))
        with pytest.raises(DatasetError, match=r"qmof_structure_data\.json: no JSON"):
            read(tmp_path / "q.zip")

    def test_with_a_disordered_structure_lists_it(self, members: dict[str, bytes], tmp_path: Path) -> None:
        entries = json.loads(members["qmof_structure_data.json"])
        entries[1]["structure"]["sites"][0]["species"][0]["occu"] = 0.5
        (tmp_path / "q.zip").write_bytes(
            zipped({**members, "qmof_structure_data.json": json.dumps(entries).encode()})
        )
        (failure,) = [entry for entry in read(tmp_path / "q.zip") if isinstance(entry, ReadFailure)]
        assert failure.structure_id == "qmof-000000b"
        assert failure.reason.startswith("partial-occupancy")
