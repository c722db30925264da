from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.study.engine.folder import fingerprint


def test_fingerprints_see_content_of_files_and_names_of_folders(tmp_path: Path) -> None:
    (tmp_path / "cifs").mkdir()
    one, names = tmp_path / "cifs/a.cif", tmp_path / "list.txt"
    one.write_text("a")
    names.write_text("a.cif\n")
    before = fingerprint(str(tmp_path / "cifs"))
    assert fingerprint(str(tmp_path / "cifs")) == before
    (tmp_path / "cifs/b.cif").write_text("b")
    assert fingerprint(str(tmp_path / "cifs")) != before
    assert fingerprint(str(tmp_path / "none")) == fingerprint(str(tmp_path / "*.txt2")) == ""


@pytest.mark.parametrize("name", ["@list.txt", "*ifs", "cifs/*.cif", "links"])
def test_fingerprints_see_through_lists_patterns_and_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cifs").mkdir()
    Path("links").mkdir()
    Path("links/there").symlink_to("../cifs")
    Path("cifs/a.cif").write_text("a")
    Path("list.txt").write_text("# mine\n\ncifs/a.cif\n@list.txt\n")  # the last leads nowhere
    before = fingerprint(name)
    assert before == fingerprint(name) != ""
    Path("cifs/a.cif").write_text("another")
    assert fingerprint(name) != before
    Path("cifs/a.cif").unlink()
    assert fingerprint(name) == ""
