"""JSON files with a digest of their own content, so that a damaged or edited one is noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mofgap.configuration import digest
from mofgap.whole_file import write_json

KEY = "digest"


def write_checked(path: Path, content: Mapping[str, Any], *, key: str = KEY, indent: int = 1) -> str:
    """Write an object with its digest under a key; returns the digest."""
    found = digest(content)
    write_json(path, {**content, key: found}, indent)
    return found


def read_checked(path: Path, *, key: str = KEY) -> tuple[dict[str, Any], str | None, str]:
    """An object without its digest, the digest that the file has, if any, and the one that fits the object.

    Raises:
        OSError: If the file ``path`` cannot be read.
        ValueError: If the file ``path`` holds no JSON object.
    """
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        return content, content.pop(key, None), digest(content)
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
