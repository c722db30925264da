from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from mofgap.whole_file import check_writable, whole_file, whole_folder

Whole = Callable[[Path], AbstractContextManager[Path]]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.csv"
    with whole_file(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    with pytest.raises(OSError, match="full"), whole_file(path) as partial:
        partial.write_text("second, half")
        raise OSError("the disk is full")
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_an_error_names_what_was_to_be_written(tmp_path: Path, whole: Whole) -> None:
    with pytest.raises(FileNotFoundError) as error, whole(tmp_path / "table") as partial:
        (partial / "absent" / "file").read_bytes()
    assert error.value.filename == str(tmp_path / "table" / "absent" / "file")


def test_a_folder_takes_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("of one file")
    with whole_folder(tmp_path / "table") as partial:
        (partial / "part").write_text("of many")
    assert (tmp_path / "table" / "part").read_text() == "of many"


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with whole_folder(tmp_path / "model") as partial:
        (partial / "part").write_text("first")
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="no space"), whole_folder(tmp_path / "model") as partial:
        (partial / "part").write_text("second")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model" / "part").read_text() == "first"


def test_a_folder_stays_where_its_replacement_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rename = tmp_path / "model", Path.rename
    folder.mkdir()
    (folder / "part").write_text("first")

    def interrupted(path: Path, target: Path) -> Path:
        if path == folder:
            rename(path, target)
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as partial:
        (partial / "part").write_text("second")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "part").read_text() == "first"


def test_a_link_to_a_file_stays_one(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "table.csv").symlink_to("scratch/table.csv")
    for text in ("first", "second"):
        with whole_file(tmp_path / "table.csv") as partial:
            partial.write_text(text)
        assert (tmp_path / "scratch" / "table.csv").read_text() == text
    assert (tmp_path / "table.csv").is_symlink() and len(list(tmp_path.rglob("*"))) == 3


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "model").symlink_to("scratch")
    with whole_folder(tmp_path / "model") as partial:
        (partial / "part").write_text("new")
    assert (tmp_path / "model").is_symlink() and (tmp_path / "scratch" / "part").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "scratch"]


@pytest.mark.parametrize("whole", [whole_file, whole_folder])
def test_a_loop_of_links_is_named_and_stays(tmp_path: Path, whole: Whole) -> None:
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(OSError, match="symbolic links") as error, whole(tmp_path / "loop.csv"):
        pass
    assert error.value.filename == str(tmp_path / "loop.csv") and (tmp_path / "loop.csv").is_symlink()


def test_what_cannot_be_written_is_found_out_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied", str(dir / "tmp123"))

    path = tmp_path / "table.csv"
    (tmp_path / "to-be-made.csv").symlink_to(tmp_path / "new" / "table.csv")
    check_writable(path)
    check_writable(tmp_path / "to-be-made.csv")
    monkeypatch.setattr("mofgap.whole_file.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="Permission denied") as error:
        check_writable(path)
    assert error.value.filename == str(path)
    assert [each.name for each in tmp_path.iterdir()] == ["to-be-made.csv"]


def test_a_folder_that_a_killed_writer_left_goes_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, other = (tmp_path / f".{name}.{'0a' * 16}.partial" for name in ("model", "model.b"))
    for folder in (left, other):
        (folder / "deep").mkdir(parents=True)
    with whole_folder(tmp_path / "model"):
        assert left.exists()  # it may be that of a live writer
    monkeypatch.setattr("mofgap.whole_file._DEAD_SECONDS", -1)
    with whole_folder(tmp_path / "model"):
        assert not left.exists()
    assert other.exists()


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with whole_file(path) as one, whole_file(path) as two:
        one.write_text("one")
        two.write_text("two")
        assert one != two
    assert path.read_text() == "one"  # which is renamed last
