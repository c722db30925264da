"""The scripts that made pictures and data still find what they import: nothing else calls them."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "docs").glob("*.py"), *(ROOT / "data").glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_imports_of_a_script_are_there(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(script.parent)  # as `python SCRIPT` does
    runpy.run_path(str(script))
