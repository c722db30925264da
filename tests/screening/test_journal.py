from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import BinaryIO

import pytest

from mofgap.screening.checked_line import _framed, line_of
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


def test_a_file_that_another_run_deletes_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "j", Journal._lock

    def late(journal: Journal, file: BinaryIO) -> None:
        monkeypatch.setattr(Journal, "_lock", lock)
        path.unlink()
        lock(journal, file)

    monkeypatch.setattr(Journal, "_lock", late)
    write(path)
    assert Journal(path, HEADER, resume=True).finished.keys() == {"a\udcff.cif", "b.cif"}


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
    with pytest.raises(JournalError, match=r"window \[1.8, 3.0\].*None"):
        Journal(tmp_path / "j", {"seed": 0}, resume=True)


def test_a_damaged_line_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    header, one, two = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(header + one.replace(b"0.3", b"7.3") + two)
    journal = Journal(path, HEADER, resume=True)
    assert journal.finished == {"b.cif": MORE} and journal.n_damaged == 1
    journal.close()
    assert path.read_bytes() == header + two
    assert Journal(path, HEADER, resume=True).n_damaged == 0


@pytest.mark.parametrize(
    "line", [line_of(HEADER), line_of([1]), line_of({"source": "a", "sha256": "b", "rows": [{"gone": 1}]})]
)
def test_a_line_with_its_checksum_that_is_no_input_counts_as_damaged(tmp_path: Path, line: bytes) -> None:
    """Two journals in one file, say."""
    path = tmp_path / "j"
    write(path)
    path.write_bytes(path.read_bytes() + line)
    journal = Journal(path, HEADER, resume=True)
    assert journal.finished == {"a\udcff.cif": DONE, "b.cif": MORE} and journal.n_damaged == 1


@pytest.mark.parametrize("line", [line_of([1]), _framed(b"{")])
def test_a_first_line_with_its_checksum_that_is_no_header_is_refused(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "j").write_bytes(line)
    with pytest.raises(JournalError, match=r"damaged first line.*--force"):
        Journal(tmp_path / "j", HEADER, resume=True)


def test_a_damaged_first_line_is_refused_with_the_cure(tmp_path: Path) -> None:
    write(tmp_path / "j")
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content.replace(b'"seed":0', b'"seed":1', 1))
    with pytest.raises(JournalError, match=r"damaged first line.*--force"):
        Journal(tmp_path / "j", HEADER, resume=True)


def test_no_flipped_bit_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path)
    whole, known = path.read_bytes(), {"a\udcff.cif": DONE, "b.cif": MORE}
    for bit in range(0, 8 * len(whole), 11):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            journal = Journal(path, HEADER, resume=True)
        except JournalError:
            assert bit // 8 <= whole.index(b"\n")
            continue
        assert journal.finished.items() < known.items()
        journal.close()


def test_the_input_that_was_begun_last_is_known_until_it_is_done(tmp_path: Path) -> None:
    write(tmp_path / "j")
    journal = Journal(tmp_path / "j", HEADER, resume=True)
    assert journal.begun == ""
    journal.begin("gone.cif")  # it gave no row
    journal.begin("c.cif")
    journal.close()
    journal = Journal(tmp_path / "j", HEADER, resume=True)
    assert journal.begun == "c.cif"
    journal.add("c.cif", MORE)
    journal.close()
    assert Journal(tmp_path / "j", HEADER, resume=True).begun == ""


def test_an_input_is_not_blamed_where_writing_its_row_ended_the_run(tmp_path: Path) -> None:
    write(tmp_path / "j")
    journal = Journal(tmp_path / "j", HEADER, resume=True)
    journal.begin("c.cif")
    journal.add("c.cif", MORE)
    journal.close()
    whole = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(whole[:-5])  # as a full disk leaves it
    assert Journal(tmp_path / "j", HEADER, resume=True).begun == ""


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
