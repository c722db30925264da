"""The run folder in small of the study's own tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location(
    "run_folder", Path(__file__).parents[1] / "study" / "report" / "conftest.py"
)
assert _SPEC and _SPEC.loader
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

run_folder = _MODULE.run_folder
