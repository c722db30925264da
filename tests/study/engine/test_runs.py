"""Looking for runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app


@pytest.mark.parametrize("text", ["{}", "[1]", "{", json.dumps({"version": 1}), json.dumps({"version": 99})])
def test_a_damaged_manifest_costs_its_own_line_only(tmp_path: Path, text: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("name: x\n")
        (tmp_path / name / "manifest.json").write_text(text)
    done = CliRunner().invoke(app, ["runs", "list", str(tmp_path)])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 1
    done = CliRunner().invoke(app, ["runs", "show", str(tmp_path / "one")])
    assert done.exit_code == 1 and "manifest.json" in done.stderr
