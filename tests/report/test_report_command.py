from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import mofgap
from mofgap.__main__ import app
from mofgap.screening.row import Row
from mofgap.screening.table import read_table, write_table

ROW = Row(1, "s0.cif", "s0", "ok", "", "CHO2Zn", 5, 2.0, 0.4, 0.2, 0.3, 1.4, 2.6, 0.7, 0.3, "", "PBE", "tiny")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_table(Path("t.csv"), [ROW])
    return Path("t.csv")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", *arguments])
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def test_a_screening_becomes_a_page(
    model_folder: Path, write_cifs: Callable[[Path, int], list[Path]], table: Path
) -> None:
    write_cifs(Path("cifs"), 2)
    Path("cifs/bad.cif").write_text("")
    frame = mofgap.screen(["cifs"], model=str(model_folder), window=(1.8, 3.0))
    frame.to_csv("screened.csv", index=False)
    code, output = run("screened.csv", "-o", "page.html")
    assert code == 0 and "3 rows, 2 of 2 structures" in output
    page = Path("page.html").read_text(encoding="utf-8")
    assert "1.8 to 3 eV" in page and "empty-file" in page and "$3Dmol" in page


def test_structures_are_found_beside_the_table(
    write_cifs: Callable[[Path, int], list[Path]], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifs(Path(), 1)
    folder = Path("elsewhere")
    folder.mkdir()
    monkeypatch.chdir(folder)
    code, output = run("../t.csv")
    assert code == 0 and "1 of 1 structure;" in output and Path("report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Usage"),
        (["gone.csv"], 1, "no such file"),
        (["gone.csv", "-o", "t.csv"], 1, "no such file"),
        (["."], 1, "no comparison.json"),
        (["t.csv", "-o", "."], 2, "exists"),
        (["t.csv", "--window", "3", "1"], 2, "lower end"),
        (["t.csv", "--window", "inf", "inf"], 2, "same infinity"),
        (["t.csv", "-o", "no-folder/r.html"], 2, "no-folder"),
        (["t.csv", "-o", "t.csv"], 2, "--force"),
        (["t.csv", "-o", "t.csv", "--force"], 2, "is an input"),
        (["t.csv", "-o", "page.csv"], 2, "a page ends in .html"),
        (["other.csv"], 1, "no column"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, message: str, table: Path) -> None:
    before = table.read_bytes()
    Path("other.csv").write_text("a\n1\n")
    found, output = run(*arguments)
    assert found == code and message in output
    assert table.read_bytes() == before and not Path("report.html").exists()


def test_a_page_is_overwritten_only_when_asked(table: Path) -> None:
    Path("report.html").write_text("mine")
    assert run("t.csv")[0] == 2 and Path("report.html").read_text() == "mine"
    assert run("t.csv", "--force")[0] == 0 and "<!doctype html>" in Path("report.html").read_text()


def test_a_comparison_becomes_a_page(run_folder: Path, table: Path) -> None:
    code, output = run(str(run_folder), "-o", "page.html")
    assert code == 0 and "8 methods, splits: 2" in output
    assert "not supported" in Path("page.html").read_text(encoding="utf-8")


def test_another_window_may_be_shaded(table: Path) -> None:
    assert run("t.csv", "--window", "2", "2.5")[0] == 0
    assert "2 to 2.5 eV" in Path("report.html").read_text(encoding="utf-8")


def test_a_column_of_dates_is_shown(table: Path) -> None:
    read_table(table).assign(measured=pd.Timestamp("2026-03-04")).to_parquet("t.parquet")
    assert run("t.parquet")[0] == 0 and "2026-03-04" in Path("report.html").read_text(encoding="utf-8")


def test_a_full_disk_is_named_with_the_page(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    code, output = run("t.csv")
    assert code == 1 and "cannot write report.html: No space left" in output


def test_a_failed_report_leaves_the_old_page(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("report.html").write_text("mine")
    Path("bad.json").write_text("[{}]")
    assert run("bad.json", "--force")[0] == 1 and Path("report.html").read_text() == "mine"
    assert sorted(path.name for path in Path().iterdir()) == ["bad.json", "report.html", "t.csv"]
