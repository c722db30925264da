"""Structures of a table, found again by the names that it has of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mofgap.crystals.entry import ReadFailure
from mofgap.screening import reread
from mofgap.screening.reread import read_again

WriteCifs = Callable[[Path, int], list[Path]]


def test_files_and_members_are_found_in_the_first_folder_and_archives_opened_once(
    write_cifs: WriteCifs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = write_cifs(tmp_path / "near", 3)
    with zipfile.ZipFile(tmp_path / "near" / "more.zip", "w") as archive:
        archive.write(two, "in/a.cif")
        archive.write(three, "in/b.cif")
    write_cifs(tmp_path / "far", 2)
    one.write_text("")
    opened = []
    expand = reread.expand_inputs
    monkeypatch.setattr(reread, "expand_inputs", lambda names: opened.append(names) or expand(names))
    files = ["./more.zip:in/a.cif", "s0.cif", "s1.cif", "gone.cif", "./more.zip:in/b.cif", "more.zip:x.cif"]
    found = dict(read_again(files, "refuse", [tmp_path / "near", tmp_path / "far"]))
    assert list(found) == [
        ("s0.cif", "s0"),
        ("s1.cif", "s1"),
        ("./more.zip:in/a.cif", "a"),
        ("./more.zip:in/b.cif", "b"),
    ]
    assert isinstance(found["s0.cif", "s0"], ReadFailure)
    assert len(opened) == 2
