from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mofgap.web import temporary
from mofgap.web.temporary import PREFIX, ServerFolder, remove_left_over


def test_only_old_folders_that_no_server_holds_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    held = ServerFolder()
    killed, new, other = (tmp_path / name for name in (f"{PREFIX}a", f"{PREFIX}b", "other"))
    for folder in (killed, new, other):
        (folder / "upload").mkdir(parents=True)
    (tmp_path / f"{PREFIX}link").symlink_to(other)
    for path in (held.path, killed, other, tmp_path / f"{PREFIX}link"):
        os.utime(path, (0, 0), follow_symlinks=False)
    remove_left_over()
    assert not killed.exists() and held.path.exists() and new.exists() and (other / "upload").exists()
    monkeypatch.setattr(temporary, "_SECONDS_TO_LOCK", -1)
    held.remove()
    assert not held.path.exists()
    ServerFolder()
    assert not new.exists()
