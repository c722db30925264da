"""Lines of JSON with a checksum, so that a damaged line is noticed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_HEAD = b'{"sha256":"%s","content":'
_N_HEAD = len(_HEAD % (b"0" * 16))


class DamagedLineError(ValueError):
    """A line that changed after it was written."""


def line_of(content: Any) -> bytes:
    """A value as one line of ASCII: names that are no valid Unicode survive as escapes.

    Args:
        content: Plain JSON values.

    Returns:
        An object with the first 64 bits of the sha256 of the text of ``content``, and that text.
    """
    return _framed(json.dumps(content, separators=(",", ":")).encode("ascii"))


def content_of(line: bytes) -> Any:
    """The value of a line that `line_of` wrote.

    Raises:
        DamagedLineError: If a byte of ``line`` has changed since it was written, or `line_of` did not write
            it.
    """
    text = line[_N_HEAD:-2]
    if _framed(text) != line:
        raise DamagedLineError("a line does not have its checksum")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedLineError("a line is no JSON") from error


def _framed(text: bytes) -> bytes:
    return _HEAD % hashlib.sha256(text).hexdigest()[:16].encode() + text + b"}\n"
