"""What ``mofgap examples`` copies."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.cli.examples import Kind

EXPECTED = {"mofs": "MOF-5_MIBQAR16.cif", "labels": "labels.csv", "tables": "shipped/scores.csv"}


@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_kind_is_copied_and_nothing_is_overwritten_unasked(kind: str, tmp_path: Path) -> None:
    words = ["examples", str(tmp_path / "here"), "--kind", kind]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    copied = tmp_path / "here" / EXPECTED[kind]
    copied.write_text("mine")
    again = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert again.exit_code == 2 and "--force" in again.output and copied.read_text() == "mine"
    assert CliRunner().invoke(app, [*words, "--force"]).exit_code == 0 and copied.read_text() != "mine"


def test_tables_of_the_shipped_models_hold_no_row_of_the_data_set() -> None:
    folder = Path(__file__).parents[2] / "docs" / "tables" / "shipped"
    files = sorted(folder.glob("*.csv"))
    columns = {name for path in files for name in path.read_text().splitlines()[0].split(",")}
    of_rows = {"structure_id", "file", "formula", "gap_ev", "label_ev", "gap_std_ev"}
    assert files and not columns & of_rows
    assert all(len(path.read_text().splitlines()) < 100 for path in files)
