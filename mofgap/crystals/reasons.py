"""Why there is no structure: reasons and warnings as one short line, whatever a file puts into them."""

from __future__ import annotations

MISSING, NO_MATCH, NO_STRUCTURES = "missing-file", "no-match", "no-structures"
"""Names of the reasons of a path and a pattern that lead to no file, and of what holds no structure."""
EMPTY_FOLDER = f"{NO_STRUCTURES}: holds no structure file"
NOWHERE = (f"{MISSING}:", f"{NO_MATCH}:", EMPTY_FOLDER)
"""How the reason of an input begins that leads to no file."""
NUMBERS = "numbers such as 0.5 or 1.5e-3"
"""What a cure tells to write where Fortran's 1.5D-3 stands, or a word."""
MAX_CHARACTERS = 300
"""Of a reason or a warning."""

# Of a label, a name or a symbol within a reason.
_MAX_VALUE = 40
_CUT = " … "


class StructureError(ValueError):
    """No structure can be had; the message is ``name: what is wrong and what to do``, on one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(one_line(reason))


def one_line(text: str) -> str:
    """A text of at most `MAX_CHARACTERS`, its control characters escaped; what is cut out is its middle."""
    if len(text) <= MAX_CHARACTERS and text.isprintable():
        return text
    if len(text) > 2 * MAX_CHARACTERS:  # before each of perhaps many millions is looked at
        text = _cut(text, 2 * MAX_CHARACTERS)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= MAX_CHARACTERS else _cut(text, MAX_CHARACTERS)


def shown(value: str) -> str:
    """A value of a file, shortened where it is long, so that the rest of the reason is kept."""
    return value if len(value) <= _MAX_VALUE else f"{value[: _MAX_VALUE - 1]}…"


def is_number(word: str) -> bool:
    """Whether a word of a file is a number as Python reads it."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def listed(values: list[str], most: int = 4) -> str:
    """The first few values, and how many more there are."""
    more = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(shown, values[:most])) + more


def _cut(text: str, length: int) -> str:
    """The start and, for the cure that it ends with, the last third of a text."""
    end = length // 3
    return text[: length - end - len(_CUT)] + _CUT + text[-end:]
