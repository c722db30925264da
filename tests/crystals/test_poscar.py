"""Elements of a POSCAR."""

from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import read_all


@pytest.mark.parametrize("symbol", ["CO", "HF", "CF", "ND"])
def test_a_symbol_that_may_be_two_atoms_is_told(symbol: str, tmp_path: Path) -> None:
    (tmp_path / "POSCAR").write_text(
        f"made\n1\n9 0 0\n0 9 0\n0 0 9\nC {symbol}\n1 1\nDirect\n0 0 0\n.5 0 0\n"
    )
    (entry,) = read_all(tmp_path / "POSCAR")
    assert isinstance(entry, Crystal)
    (warning,) = entry.warnings
    assert warning.startswith("ambiguous-element: ") and f"{symbol} as {symbol.capitalize()}" in warning
