from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from mofgap.screening.journal import Finished, Journal, JournalError
from mofgap.screening.row import Row

HEADER = {"seed": 0, "window": (1.8, 3.0)}
DONE = Finished("ab12", (Row(None, "a\udcff.cif", "a", "ok", gap_ev=0.1 + 0.2, n_atoms=5),))
MORE = Finished("cd34", (Row(None, "b.cif", "b", "failed", "why"), Row(None, "b.cif", "c", "ok")))


def write(path: Path) -> None:
    journal = Journal(path, HEADER, resume=False)
    journal.add("a\udcff.cif", DONE)
    journal.add("b.cif", MORE)
    journal.close()


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "j")
    assert Journal(tmp_path / "j", HEADER, resume=True).finished == {"a\udcff.cif": DONE, "b.cif": MORE}


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_torn_last_line_is_dropped_and_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j"
    write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    journal = Journal(path, HEADER, resume=True)
    assert journal.finished == {"a\udcff.cif": DONE}
    journal.add("b.cif", MORE)
    journal.close()
    assert path.read_bytes() == whole


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(tmp_path / "j", HEADER, resume=False)
    journal._file.close()
    journal._file = Full()
    with pytest.raises(OSError, match="No space left"):
        journal.add("b.cif", MORE)
    journal.close()


def test_torn_header_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    path.write_bytes(path.read_bytes()[:7])
    Journal(path, HEADER, resume=True).close()
    assert Journal(path, HEADER, resume=True).finished == {}


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "j")
    with pytest.raises(JournalError, match="seed 0 then, 1 now"):
        Journal(tmp_path / "j", HEADER | {"seed": 1}, resume=True)
    with pytest.raises(JournalError, match=r"window \[1.8, 3.0\] then, None now"):
        Journal(tmp_path / "j", {"seed": 0}, resume=True)


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "j")
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(lines[0] + b"{\n" + lines[2])
    with pytest.raises(JournalError, match="--force"):
        Journal(tmp_path / "j", HEADER, resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_a_journal_that_another_run_writes_is_left_alone(tmp_path: Path, resume: bool) -> None:
    write(tmp_path / "j")
    whole = (tmp_path / "j").read_bytes()
    running = Journal(tmp_path / "j", HEADER, resume=True)
    with pytest.raises(JournalError, match="another process"):
        Journal(tmp_path / "j", HEADER, resume=resume)
    assert (tmp_path / "j").read_bytes() == whole
    running.close()
    Journal(tmp_path / "j", HEADER, resume=resume).close()


def test_without_resume_it_begins_anew_and_goes_when_done(tmp_path: Path) -> None:
    write(tmp_path / "j")
    journal = Journal(tmp_path / "j", HEADER, resume=False)
    assert journal.finished == {}
    journal.remove()
    assert not (tmp_path / "j").exists()
