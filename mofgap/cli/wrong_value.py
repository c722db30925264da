"""What is wrong with the value of an option, in mofgap's words instead of those of typer and pydantic."""

from __future__ import annotations

import re
from typing import Any

from mofgap.nearest import nearest

_QUOTED = re.compile(r"'([^']*)'")
# pydantic's kinds of errors, with the values that they tell.
_WORDS = {
    "greater_than_equal": "must be at least {ge}, got {value}",
    "less_than_equal": "must be at most {le}, got {value}",
    "int_parsing": "expected a whole number, got {value!r}",
    "int_from_float": "expected a whole number, got {value!r}",
    "float_parsing": "expected a number, got {value!r}",
}


def words_of_value(message: str, cause: Any) -> str:
    """The words for a value that was refused, with the nearest choice where there are choices.

    Args:
        message: What typer says.
        cause: The error of pydantic that led to it, if one did.
    """
    details = cause.errors()[0] if hasattr(cause, "errors") else {}
    values = details.get("ctx", {})
    if pattern := _WORDS.get(details.get("type", "")):
        return pattern.format(value=details["input"], **values)
    words = str(values.get("error", message))
    if " is not one of " not in words:
        return words
    given, *choices = _QUOTED.findall(words)
    near = nearest(given, choices)
    return f"{words.removesuffix('.')}; did you mean {near!r}?" if near else words
