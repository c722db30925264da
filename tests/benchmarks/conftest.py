"""Benchmarks lie beside the package and are not installed with it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # last, so that an installed mofgap goes first
