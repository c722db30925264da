from __future__ import annotations

import errno
import re

import pytest

from mofgap.cli.exits import cannot_write, words_of


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PermissionError(13, "Permission denied", "x.csv"),
            "x.csv: Permission denied; check its permissions",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "x.csv"),
            "x.csv: No such file .*; check the path",
        ),
        (IsADirectoryError(21, "Is a directory", "x"), "x: Is a directory; name a file"),
        (FileExistsError(17, "File exists", "x"), "x: File exists; name another"),
        (OSError(errno.ELOOP, "Too many levels", "x"), "x: Too many levels; check the path"),
        (OSError(28, "No space left on device", "x.csv"), "x.csv: No space left on device$"),
        (ValueError("x.csv: no rows"), "x.csv: no rows$"),
    ],
)
def test_an_error_names_file_reason_and_cure(error: Exception, words: str) -> None:
    assert re.match(words, words_of(error))


def test_what_cannot_be_written_is_named_once() -> None:
    loop = OSError(errno.ELOOP, "Too many levels", "x.csv")
    assert cannot_write("x.csv", loop) == "cannot write x.csv: Too many levels; check the path"
    full = OSError(28, "No space left")
    assert cannot_write("x.csv", full) == "cannot write x.csv: No space left"
    assert cannot_write("x.xlsx", ValueError("too many rows")) == "cannot write x.xlsx: too many rows"
