from __future__ import annotations

import os
from pathlib import Path

from mofgap.cli.screening_run import _read_once


def test_what_can_be_read_once_is_not_counted_first(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a.cif\n")
    assert not _read_once(f"@{names}") and not _read_once(str(names))
    ends = os.pipe()
    assert _read_once(f"@/dev/fd/{ends[0]}") and _read_once("-") and _read_once("a.tar.xz")
    for end in ends:
        os.close(end)
