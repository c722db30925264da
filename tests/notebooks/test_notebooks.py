"""The notebooks as they are kept; ``pytest --nbmake notebooks`` runs them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9]*.py"))
MAX_BYTES = 1_000_000

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def test_all_five_are_there() -> None:
    assert [path.name[:2] for path in SOURCES] == ["01", "02", "03", "04", "05"]


@each_source
def test_kept_notebook_is_its_text_source_with_outputs(source: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    kept = jupytext.read(source.with_suffix(".ipynb"))
    wanted = jupytext.read(source)
    cells = [[(cell.cell_type, cell.source) for cell in notebook.cells] for notebook in (kept, wanted)]
    assert cells[0] == cells[1], f"run: python notebooks/run.py {source.name[:2]}"
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any("image/png" in out.get("data", {}) for cell in code for out in cell.outputs)


@each_source
def test_kept_notebook_is_small_without_errors_and_without_paths_of_a_machine(source: Path) -> None:
    text = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert len(text.encode()) < MAX_BYTES
    outputs = [out for cell in json.loads(text)["cells"] for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out["output_type"] == "error"]
    said = json.dumps([out.get("text", "") for out in outputs])
    assert "Traceback" not in said and not re.search(r"/(home|root|tmp|work)/", said)


@each_source
def test_only_what_users_know_is_imported(source: Path) -> None:
    text = re.sub(r"^# !.*$", "", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    nodes = list(ast.walk(ast.parse(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name for name in names if name.startswith("mofgap")} <= {"mofgap", "mofgap.balora"}


@each_source
def test_data_are_those_that_ship(source: Path) -> None:
    text = re.sub(r"^# !.*$", "", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = [
        node.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    outside = [name for name in names if re.match(r"(\.\./|data/|configs/|docs/)", name)]
    assert not outside, "a notebook runs in any folder, where it writes what it reads"
    assert not [name for name in names if "shared" in name or "://" in name]
