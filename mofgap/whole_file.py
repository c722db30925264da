"""Whole files: they appear whole or not at all, whatever kills their writer and whoever else writes them."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

# A live writer of a folder writes something within a week.
_DEAD_SECONDS = 7 * 24 * 3600


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file to write, which becomes the file unless something fails; a link stays one.

    Args:
        path: The file; its folder is made if need be.

    Yields:
        Where to write.
    """
    path = _behind(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        _name(error, partial, path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Find out whether `whole_file` can write a file, as far as that is known before.

    Raises:
        OSError: If the links of ``path`` go in a circle, or its folder takes no file.
    """
    folder = _behind(path).parent
    if not folder.is_dir():  # it is made
        return
    try:
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which replaces the folder unless something fails; a link stays one."""
    folder = _behind(folder)
    partial, old = (folder.with_name(f".{folder.name}.{uuid4().hex}.{kind}") for kind in ("partial", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(folder)
        partial.mkdir()
        yield partial
        if folder.is_dir():
            folder.rename(old)
        else:
            folder.unlink(missing_ok=True)
        partial.rename(folder)
    except OSError as error:
        _name(error, partial, folder)
        raise
    finally:
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        rmtree(partial, ignore_errors=True)
        rmtree(old, ignore_errors=True)


def _behind(path: Path) -> Path:
    """What a link leads to; other paths as they are."""
    if not path.is_symlink():
        return path
    with suppress(FileNotFoundError):  # it may lead to what is to be made, but not in circles
        path.stat()
    return path.resolve()


def _remove_left_over(folder: Path) -> None:
    """Remove what killed writers of a folder have left: nothing in it was written for `_DEAD_SECONDS`."""
    is_partial = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{32}}\.partial").fullmatch
    with suppress(OSError):  # whoever else removes it, or what may not be listed or touched
        for path in filter(lambda path: is_partial(path.name), folder.parent.iterdir()):
            # Not the times of modification, which copies keep.
            newest = max(each.lstat().st_ctime for each in (path, *path.rglob("*")))
            if time.time() - newest > _DEAD_SECONDS:
                rmtree(path, ignore_errors=True)


def _name(error: OSError, partial: Path, path: Path) -> None:
    """Let an error name the file that was to be written, not the temporary one."""
    if isinstance(error.filename, str | Path):
        error.filename = str(error.filename).replace(str(partial), str(path))


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any, indent: int = 1) -> None:
    """Write strict JSON."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file, or a damaged one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def finite(value: Any) -> Any:
    """A value for strict JSON, which has no NaN and no infinity: they become None."""
    if isinstance(value, Mapping):
        return {str(name): finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def why_missing(path: Path) -> str:
    """Why nothing is at a path, and a cure; empty where something is there."""
    try:
        path.stat()
    except FileNotFoundError:
        return "no such file; check the path"
    except OSError as error:
        return f"{error.strerror}; check the path"
    return ""


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
