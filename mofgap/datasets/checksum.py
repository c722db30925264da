"""sha256 sums of files, kept next to them in the format of the ``sha256sum`` program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mofgap.checked_json import read_checked
from mofgap.shipped import CONFIG, DESCRIPTION, ENCODER_WEIGHTS, shipped_digests, shipped_folder
from mofgap.whole_file import sha256_of, write_text

SUMS = "SHA256SUMS"
_DESCRIPTIONS = (CONFIG, DESCRIPTION)


@dataclass(frozen=True)
class Check:
    """The sha256 of a file and its recorded sum.

    Attributes:
        path: The file.
        expected: sha256 that is written down for it; None where none is.
        found: sha256 of what is there; None where nothing is.
    """

    path: Path
    expected: str | None
    found: str | None

    @property
    def verdict(self) -> Literal["ok", "changed", "missing", "unknown"]:
        """``unknown`` means that no sum is written down."""
        if self.found is None:
            return "missing"
        if self.expected is None:
            return "unknown"
        return "ok" if self.found == self.expected else "changed"


def check(path: Path, expected: str | None) -> Check:
    """Compare a file with its recorded sum."""
    return Check(path, expected, sha256_of(path) if path.is_file() else None)


def lock_of(path: Path) -> Path:
    """The file with the sum of a fetched file, next to it."""
    return path.with_name(f"{path.name}.sha256")


def write_sums(path: Path, sums: Mapping[str, str]) -> None:
    """Write a table that ``sha256sum -c`` reads; it appears whole or not at all."""
    write_text(path, "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def read_sums(path: Path) -> dict[str, str]:
    """The sums of a table by file name.

    Raises:
        ValueError: If a line of the file ``path`` is not a sha256 followed by a file name.
    """
    sums = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef") or not name:
            raise ValueError(f"{path}: {line!r} is no sha256 and file name; correct the line")
        sums[name] = digest
    return sums


def check_folder(folder: Path) -> Iterator[Check]:
    """Compare the files of a folder with the sums recorded in it.

    Args:
        folder: With ``SHA256SUMS``, or a model or encoder folder, whose description holds its sums.

    Raises:
        ValueError: If ``folder`` holds no sums, or they cannot be read.
    """
    if (folder / SUMS).is_file():
        sums = read_sums(folder / SUMS)
    else:
        itself, sums = _described(folder)
        if itself.expected is not None:  # folders of older versions have no digest
            yield itself
    for name, expected in sorted(sums.items()):
        yield check(folder / name, expected)


def has_sums(folder: Path) -> bool:
    """Whether `check_folder` finds sums there."""
    return any((folder / name).is_file() for name in (SUMS, *_DESCRIPTIONS))


def _described(folder: Path) -> tuple[Check, dict[str, str]]:
    """The description of a model or encoder against its digest, and the sums of the files it describes.

    What is shipped must have the digest that is in the package.
    """
    path = next((folder / name for name in _DESCRIPTIONS if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(
            f"{folder}: it has no sums of files; name the folder of a model, or one that mofgap wrote"
        )
    try:
        content, own, found = read_checked(path)
        sums = content["sha256"]
        sums = {ENCODER_WEIGHTS: sums} if isinstance(sums, str) else dict(sums)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no sha256; get the folder again") from error
    is_shipped = folder.resolve().parent == shipped_folder("models").resolve()
    expected = shipped_digests().get(folder.resolve().name) if is_shipped else own
    return Check(path, expected, found), sums
