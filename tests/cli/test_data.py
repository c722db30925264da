"""``mofgap data`` as a user meets it."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from mofgap.__main__ import app
from mofgap.cli.data import list_
from mofgap.datasets import registry
from mofgap.datasets.checksum import check_folder
from mofgap.training.labels import read_labels

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
NAMES = ("Hofmann-FeNi_LUFQUZ", "SIFSIX-3-Zn_FUDQIF", "MIL-53-Al-open_SABVUN")


FIXTURES = Path(__file__).parents[1] / "fixtures" / "cifs"


def data(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def cifs(tmp_path: Path) -> Path:
    folder = tmp_path / "cifs"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(EXAMPLES / f"{name}.cif", folder)
    return folder


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("file,gap,split\n" + "".join(f"{n}.cif,{i}.5,train\n" for i, n in enumerate(NAMES)))
    return path


class TestImport:
    def test_makes_a_table_that_training_reads(self, tmp_path: Path, cifs: Path, labels: Path) -> None:
        output = tmp_path / "t.parquet"
        done = data("import", cifs, labels, "--target", "gap=gap_ev", "-o", output)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{output}: 3 structures, 3 with gap_ev\n"
        table = read_labels(output, None, "gap_ev", needed=("train",))
        assert dict(zip(table.frame.structure_id, table.frame.gap_ev, strict=True)) == {
            name: i + 0.5 for i, name in enumerate(NAMES)
        }
        assert not output.with_suffix(".skipped.csv").exists()

    def test_partial_occupancies_are_kept_as_asked(self, tmp_path: Path) -> None:
        shutil.copy(FIXTURES / "partial_occupancy.cif", tmp_path / "p.cif")
        (tmp_path / "l.csv").write_text("name,gap_ev\np,2.0\n")
        how = [
            "import",
            tmp_path / "p.cif",
            tmp_path / "l.csv",
            "--target",
            "gap_ev",
            "-o",
            tmp_path / "t.parquet",
        ]
        assert "--disorder majority" in data(*how).output
        done = data(*how, "--disorder", "majority", "--force")
        assert done.exit_code == 0 and "1 structure" in done.stdout, done.output

    def test_lists_what_is_left_out_and_ends_with_3(self, tmp_path: Path, cifs: Path, labels: Path) -> None:
        (cifs / "empty.cif").write_text("")
        labels.write_text(labels.read_text().replace(NAMES[0], "other"))
        output = tmp_path / "t.parquet"
        done = data("import", cifs, labels, "--target", "gap", "-o", output)
        assert done.exit_code == 3
        assert "3 listed in" in done.stderr
        listed = pd.read_csv(output.with_suffix(".skipped.csv"))
        kinds = {row.structure_id: row.reason.split(":")[0] for row in listed.itertuples()}
        assert kinds == {
            "empty": "empty-file",
            NAMES[0]: "missing-label",
            "other": "missing-structure",
        }
        assert len(pd.read_parquet(output)) == 2

    def test_without_a_single_structure_writes_no_table(self, tmp_path: Path, cifs: Path) -> None:
        (tmp_path / "labels.csv").write_text("id,gap\nnobody,1\n")
        done = data("import", cifs, tmp_path / "labels.csv", "--target", "gap", "-o", tmp_path / "t.parquet")
        assert done.exit_code == 1
        assert "no structure" in done.stderr
        assert not (tmp_path / "t.parquet").exists()
        assert (tmp_path / "t.skipped.csv").exists()

    def test_overwrites_only_when_told(self, tmp_path: Path, cifs: Path) -> None:
        output = tmp_path / "t.parquet"
        output.write_text("precious")
        assert data("import", cifs, "--without-labels", "-o", output).exit_code == 2
        assert output.read_text() == "precious"
        assert data("import", cifs, "--without-labels", "-o", output, "--force").exit_code == 0
        assert len(pd.read_parquet(output)) == 3
        output.unlink()
        output.with_suffix(".skipped.csv").write_text("precious")
        assert data("import", cifs, "--without-labels", "-o", output).exit_code == 2
        assert output.with_suffix(".skipped.csv").read_text() == "precious"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nowhere"], "nowhere: no such file or folder, and no dataset 'nowhere'"),
            (["qmoff"], "did you mean 'qmof'?"),
            (["CIFS"], "CIFs carry no gaps; give a CSV of labels, or --without-labels"),
            (["CIFS", "--target", "gap"], "CIFs carry no gaps; give a CSV of labels too"),
            (["CIFS", "LABELS"], "name the column of the gap with --target"),
            (["CIFS", "LABELS", "--target", "gop"], "no column 'gop'; did you mean 'gap'?"),
            (["CIFS", "LABELS", "--target", "gap=n_atoms"], "column 'n_atoms' would be there twice"),
            (["CIFS", "LABELS", "--target", "gap", "--keep", "nothing"], "no column 'nothing'"),
            (["CIFS", "LABELS", "--target", "gap", "--id", "code"], "no column 'code'"),
            (["CIFS", "NONE", "--target", "gap"], "none.csv: no such file"),
            (["CIFS", "--without-labels", "--keep", "x"], "CIFs without labels have no columns"),
            (["CIFS", "--without-labels", "--id", "x"], "CIFs without labels have no columns"),
            (["JSON", "--target", "band_gap", "--keep", "nosuch"], "no column 'nosuch'"),
            (["JSON", "--target", "band_gap", "--target", "band_gap=g"], "'band_gap' is asked for twice"),
            (["JSON"], "name the gap with --target, or give --without-labels; numbers in it are band_gap"),
        ],
    )
    def test_says_what_is_wrong(
        self, tmp_path: Path, cifs: Path, labels: Path, arguments: list[str], words: str
    ) -> None:
        atoms = {"lattice_mat": [[9, 0, 0], [0, 9, 0], [0, 0, 9]], "coords": [[0, 0, 0]], "elements": ["Zn"]}
        (tmp_path / "j.json").write_text(json.dumps([{"jid": "j", "atoms": atoms, "band_gap": 1.0}]))
        places = {"CIFS": cifs, "LABELS": labels, "NONE": tmp_path / "none.csv", "JSON": tmp_path / "j.json"}
        output = tmp_path / "t.parquet"
        done = data("import", *(places.get(a, a) for a in arguments), "-o", output)
        assert done.exit_code == 1
        assert words in done.stderr
        assert not output.exists()

    def test_takes_the_quickstart_set_by_its_name(self, tmp_path: Path) -> None:
        output = tmp_path / "t.parquet"
        done = data("import", "quickstart", "-o", output)
        assert done.exit_code == 0, done.output
        frame = pd.read_parquet(output)
        shipped = pd.read_csv(EXAMPLES.parent / "quickstart" / "labels.csv").set_index("structure_id")
        assert len(frame) == len(shipped)
        found = frame.set_index("structure_id")
        for column in ("gap_ev", "split", "group", "n_atoms"):
            assert (found[column] == shipped[column]).all(), column

    def test_takes_core_mof_where_it_is_installed(self, tmp_path: Path) -> None:
        pytest.importorskip("CoRE_MOF", reason="the package core-mof is not installed")
        source = registry.find_dataset("core-mof-2014").location(tmp_path)
        assert source.name == "2014.tar.xz"
        assert source.is_file()

    def test_says_how_to_get_core_mof_where_it_is_not(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(registry, "find_spec", lambda name: None)
        done = data("import", "core-mof", "-o", tmp_path / "t.parquet")
        assert done.exit_code == 1
        assert "pip install core-mof" in done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}", folder
        http.shutdown()


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: tuple[str, Path]) -> Path:
    """A registry of one dataset on the server, its sum not known; the folder of fetched data is returned."""
    text = (
        "datasets:\n  small:\n    title: A small set\n    access: download\n    path: small.zip\n"
        f"    url: {server[0]}/small.zip\n    licence: CC BY 4.0\n"
        "    citation:\n      - A. Author, J. Tests 1 (2025)\n"
    )
    (tmp_path / "datasets.yaml").write_text(text)
    monkeypatch.setattr(registry, "shipped_folder", lambda kind: tmp_path)
    return tmp_path / "fetched"


class TestFetch:
    def test_states_the_licence_and_records_the_sum(self, known: Path, server: tuple[str, Path]) -> None:
        (server[1] / "small.zip").write_bytes(b"content")
        done = data("fetch", "small", "--folder", known)
        assert done.exit_code == 0, done.output
        assert "Licence: CC BY 4.0. Cite:\n  A. Author, J. Tests 1 (2025)\n" in done.stderr
        assert (known / "small.zip").read_bytes() == b"content"
        digest = hashlib.sha256(b"content").hexdigest()
        assert (known / "small.zip.sha256").read_text() == f"{digest}  small.zip\n"
        assert f"sha256 {digest}" in done.stderr

    def test_does_not_fetch_again_what_is_there(self, known: Path, server: tuple[str, Path]) -> None:
        (server[1] / "small.zip").write_bytes(b"content")
        data("fetch", "small", "--folder", known)
        (server[1] / "small.zip").unlink()
        assert data("fetch", "small", "--folder", known).exit_code == 0

    def test_of_a_file_changed_since_ends_with_an_error(self, known: Path, server: tuple[str, Path]) -> None:
        (server[1] / "small.zip").write_bytes(b"content")
        data("fetch", "small", "--folder", known)
        (known / "small.zip").write_bytes(b"other")
        done = data("fetch", "small", "--folder", known)
        assert done.exit_code == 1
        assert "remove it" in done.stderr
        checked = data("verify", "small", "--folder", known)
        assert checked.exit_code == 3
        assert checked.stdout.startswith(f"changed\t{known / 'small.zip'}")

    def test_of_what_is_not_there_names_the_address(self, known: Path, server: tuple[str, Path]) -> None:
        done = data("fetch", "small", "--folder", known)
        assert done.exit_code == 1
        assert f"{server[0]}/small.zip: HTTP 404" in done.stderr

    def test_of_another_file_than_the_published_one_leaves_nothing(
        self, tmp_path: Path, server: tuple[str, Path]
    ) -> None:
        (server[1] / "q.zip").write_bytes(b"not the database")
        done = data("fetch", "qmof", "--url", f"{server[0]}/q.zip", "--folder", tmp_path / "f")
        assert done.exit_code == 1
        assert "expected 97d23c0b4f9e" in done.stderr
        assert list((tmp_path / "f").iterdir()) == []

    def test_of_an_unknown_name_says_the_nearest(self) -> None:
        done = data("fetch", "qmoff")
        assert done.exit_code == 1
        assert "did you mean 'qmof'?" in done.stderr


class TestVerify:
    def test_finds_all_that_is_shipped_as_it_should_be(self, tmp_path: Path) -> None:
        done = data("verify", "--folder", tmp_path)
        assert done.exit_code == 0, done.output
        for name in (
            "model.safetensors",
            "encoder.safetensors",
            "quickstart/labels.csv",
            "HKUST-1_FIQCEN.cif",
        ):
            assert name in done.stdout
        assert "changed" not in done.stdout

    def test_finds_a_change_of_one_byte_and_a_missing_file(self, tmp_path: Path) -> None:
        folder = tmp_path / "quickstart"
        shutil.copytree(EXAMPLES.parent / "quickstart", folder)
        content = bytearray((folder / "labels.csv").read_bytes())
        content[-2] ^= 1
        (folder / "labels.csv").write_bytes(content)
        (folder / "structures.zip").unlink()
        done = data("verify", folder)
        assert done.exit_code == 3
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["ok", "changed", "missing"]
        assert "1 of 3 files" in done.stderr

    def test_finds_a_setting_of_a_model_that_was_edited(self, tmp_path: Path, model_folder: Path) -> None:
        folder = tmp_path / "tiny"
        shutil.copytree(model_folder, folder)
        assert data("verify", folder).exit_code == 0
        path = folder / "config.json"
        path.write_text(path.read_text().replace('"rank": 2', '"rank": 3'))
        done = data("verify", folder)
        assert done.exit_code == 3
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["changed"] + ["ok"] * 7

    def test_names_a_folder_without_sums(self, tmp_path: Path) -> None:
        done = data("verify", tmp_path)
        assert done.exit_code == 1
        assert str(tmp_path) in done.stderr
        with pytest.raises(ValueError, match=str(tmp_path)):
            list(check_folder(tmp_path))

    @pytest.mark.parametrize("content", ["{}", '{"sha256": 5}', '{"sha256": null}', '{"sha256": [1]}'])
    def test_names_a_description_without_sums(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "config.json").write_text(content)
        done = data("verify", tmp_path)
        assert done.exit_code == 1
        assert "config.json holds no sha256" in done.stderr

    def test_names_a_file_without_a_sum(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(b"")
        done = data("verify", tmp_path / "a.zip")
        assert done.exit_code == 1
        assert "a.zip.sha256 is missing; " in done.stderr

    @pytest.mark.parametrize("name", ["qmof-pbe", "quickstart"])
    def test_takes_names(self, name: str) -> None:
        done = data("verify", name)
        assert done.exit_code == 0
        assert f"{name}/" in done.stdout


def test_list_shows_every_dataset_and_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOFGAP_DATA", str(tmp_path))
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    done = data("list")
    assert done.exit_code == 0
    rows = {line.split("\t")[0]: line.split("\t") for line in done.stdout.splitlines()}
    assert set(rows) == set(registry.read_registry())
    assert rows["qmof"][2:] == ["392 MB", "CC BY 4.0", "not here; mofgap data fetch qmof"]
    assert rows["quickstart"][-1].endswith("structures.zip")
    assert rows["core-mof"][-1] == "not here; pip install core-mof"


def test_a_terminal_gets_paths_that_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", stream)
    list_()
    place = registry.find_dataset("quickstart").location(registry.data_folder())
    assert f"quickstart: {place}" in stream.getvalue().splitlines()


def test_every_entry_of_the_registry_can_be_cited() -> None:
    for name, dataset in registry.read_registry().items():
        assert dataset.licence and dataset.citation, name
        assert (dataset.access == "download") == (dataset.url is not None), name
        assert (dataset.access == "package") == (dataset.package is not None), name
