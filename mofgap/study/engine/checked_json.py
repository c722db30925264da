"""JSON files with a checksum; a damaged file counts as missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mofgap.configuration import digest
from mofgap.whole_file import read_json, write_json

_KEY = "sha256"


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object with its sha256."""
    write_json(path, {**content, _KEY: digest(content)})


def read_checked(path: Path) -> dict[str, Any]:
    """An object; empty where there is no file, or a damaged one."""
    content = read_json(path)
    return content if content.pop(_KEY, None) == digest(content) else {}
