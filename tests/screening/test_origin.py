"""The record of a table: what made it, and how its structures were read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner

import mofgap
from mofgap.__main__ import app
from mofgap.cli.tables import MAX_NAMES, command_line
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.screening.origin import ATTRIBUTE, origin_of, origin_path, preparation_of, read_origin
from mofgap.screening.table import read_table

TABLE = Path("t.csv")


@pytest.fixture
def twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_cifs: Callable[[Path, int], list[Path]]
) -> Path:
    """A structure in a doubled cell, here."""
    monkeypatch.chdir(tmp_path)
    (single,) = write_cifs(tmp_path / "single", 1)
    Structure.from_file(single).make_supercell([1, 1, 2]).to("twice.cif", fmt="cif")
    return Path("twice.cif")


@pytest.fixture
def table(twice: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> pd.DataFrame:
    """The table of that cell as it is."""
    options = ["--model", str(model_folder), "--no-primitive-cell", "--window", "0", "9"]
    words = ["screen", str(twice), "-o", str(TABLE), *options]
    monkeypatch.setattr(sys, "argv", ["/bin/mofgap", *words])
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return read_table(TABLE)


def test_a_table_comes_with_its_command_version_and_settings(table: pd.DataFrame) -> None:
    found = origin_of(table)
    assert found["command"].startswith("mofgap screen twice.cif -o t.csv --model ")
    assert (found["date"], found["n_rows"], found["primitive_cell"]) == ("1970-01-02", 1, False)
    assert found["model_sha256"] and "mofgap" in found


def test_select_and_report_read_structures_as_the_table_says(table: pd.DataFrame, model_folder: Path) -> None:
    assert preparation_of(table) == PreparationConfig(primitive_cell=False)
    chosen = mofgap.select(table, 1, "window", model=str(model_folder))
    assert chosen.crystals[0].n_atoms == table.n_atoms[0] == 10
    done = CliRunner().invoke(app, ["report", str(TABLE)])
    assert done.exit_code == 0 and "1 of 1 structure;" in done.output
    page = Path("report.html").read_text(encoding="utf-8")
    assert "mofgap screen twice.cif" in page and "(1970-01-02, mofgap " in page
    chosen.write("chosen")
    again = mofgap.select(read_table(Path("chosen/selection.csv")), 1, "window", model=str(model_folder))
    assert again.crystals[0].n_atoms == 10


@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_page_without_a_table_reads_structures_as_they_were_read(
    twice: Path, model_folder: Path, is_sharded: bool
) -> None:
    screen = ["screen", str(twice), "-o", "page.html", "--model", str(model_folder), "--no-primitive-cell"]
    gather = ["gather", "page.html.shard-1-of-1.jsonl", "-o", "page.html"]
    for words in ([*screen, "--shard", "1/1"], gather) if is_sharded else (screen,):
        assert CliRunner().invoke(app, words).exit_code == 0
    assert "CIF files were not found" not in Path("page.html").read_text(encoding="utf-8")


def test_a_name_that_is_no_text_does_not_lose_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "screen", "bad\udcff.cif"])
    assert command_line() == "mofgap screen 'bad�.cif'"


def test_without_its_record_a_table_is_read_with_the_defaults(table: pd.DataFrame) -> None:
    for damaged in ("{", "[1]", '{"geometry": "odd"}'):
        origin_path(TABLE).write_text(damaged)
        assert preparation_of(read_table(TABLE)) == PreparationConfig()
    origin_path(TABLE).unlink()
    assert read_origin(TABLE) == {}
    assert CliRunner().invoke(app, ["report", str(TABLE)]).exit_code == 0
    assert "not recorded" in Path("report.html").read_text(encoding="utf-8")


def test_rows_that_were_taken_out_are_told(table: pd.DataFrame) -> None:
    text = origin_path(TABLE).read_text()
    origin_path(TABLE).write_text(text.replace('"n_rows": 1', '"n_rows": 7'))
    assert CliRunner().invoke(app, ["report", str(TABLE)]).exit_code == 0
    assert "of its 7 rows some are missing" in Path("report.html").read_text(encoding="utf-8")


def test_rows_of_other_tables_are_told(table: pd.DataFrame) -> None:
    TABLE.write_text(TABLE.read_text() + TABLE.read_text().splitlines()[1].replace("twice", "other") + "\n")
    assert CliRunner().invoke(app, ["report", str(TABLE), "--force"]).exit_code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert "rows of other tables were added to its 1<" in page


def test_a_table_of_python_knows_its_call(twice: Path, model_folder: Path, tmp_path: Path) -> None:
    table = mofgap.screen(twice, model=str(model_folder), primitive_cell=False)
    assert "primitive_cell=False" in origin_of(table)["command"]
    assert preparation_of(table[table["rank"] == 1]) == PreparationConfig(primitive_cell=False)
    table.to_parquet(tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet").attrs[ATTRIBUTE] == origin_of(table)


def test_the_command_names_a_few_of_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"a {i}.cif" for i in range(MAX_NAMES + 3)]
    monkeypatch.setattr(sys, "argv", ["x", "screen", *names, "--window", "1.8", "3.0"])
    assert command_line().startswith("mofgap screen 'a 0.cif' ")
    assert command_line().endswith("[4 more] --window 1.8 3.0")
