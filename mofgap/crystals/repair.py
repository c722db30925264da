"""The readable part of a damaged data block, as text that gemmi reads.

One title without quotes makes gemmi refuse a whole file. Nothing is guessed here: only what a structure takes
is kept, so that damage elsewhere does not matter, and a single value of several words is quoted. A table of
sites or operators that is damaged itself stays refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gemmi import cif

from mofgap.crystals.reasons import StructureError, one_line

GEMMI_ERRORS = (ValueError, RuntimeError)
"""What gemmi raises on a text that is no CIF."""

_NEEDED = re.compile(
    r"_(cell_|symmetry_|space_group_|atom_site_(?!aniso)|chemical_formula_sum\b)", re.IGNORECASE
)
_PLACE = re.compile(r"^string:(\d+)(?::\d+\(\d+\))?")
_TAG = re.compile(r"(?<!\S)_\S+")
_NO_ASCII = re.compile(r"[^\t\n\r -~]")
# In a label such as O1β, where "?" would have a meaning.
_NO_ASCII_IN_WORD = re.compile(r"(?<=\S)[^\t\n\r -~]")


def quoted(text: str) -> str:
    """A data block with each value of several words, on the line of its tag, in quotes.

    Raises:
        StructureError: If a text field does not end, or includes lines that a structure needs.
    """
    return "\n".join(item if "\n" in item else _quoted(item) for item in _items(text, "") if item)


def repaired(text: str, error: Exception, lines_above: int) -> cif.Block:
    """The part of a data block that a structure takes.

    Args:
        text: The data block, from ``data_``.
        error: What gemmi objects to in it.
        lines_above: Lines of the file above the block.

    Raises:
        StructureError: If the damage is in lines that a structure needs, or the text was cut off.
    """
    words = readable(error, lines_above)
    items = _items(_NO_ASCII.sub("?", _NO_ASCII_IN_WORD.sub("_", text)), words)
    kept = [_quoted(item) for item in items if any(map(_NEEDED.match, _TAG.findall(item)))]
    try:
        return cif.read_string("\n".join(["data_repaired", *kept]), 0).sole_block()
    except GEMMI_ERRORS as still:
        if _ends_early(text, readable(error)):
            raise _truncated(words) from still
        raise StructureError(f"syntax: {words}; correct the file, or export it again") from still


def readable(error: Exception, lines_above: int = 0) -> str:
    """Gemmi's complaint with the place in the file as ``line 13``."""
    return _PLACE.sub(lambda place: f"line {int(place[1]) + lines_above}", one_line(str(error)))


def _items(text: str, error: str) -> Iterator[str]:
    """Each tag with its value and each loop with its table, without comments.

    Raises:
        StructureError: If a text field does not end, or includes lines that a structure needs.
    """
    item: list[str] = []
    in_text = in_header = embedded = False
    for line in text.splitlines():
        word = line.split(maxsplit=1)[0].lower() if line.strip() else "#"
        if in_text or line.startswith(";"):
            in_text ^= line.startswith(";")
            embedded = in_text and (embedded or word.startswith("data_"))  # a file inside the field
            if in_text and not embedded and _NEEDED.match(word):
                raise StructureError(
                    f"syntax: {error}; a text field before {word} does not end, correct the file"
                )
            item.append(line)
        elif not word.startswith("#"):
            if word.startswith(("loop_", "data_")) or (word.startswith("_") and not in_header):
                yield "\n".join(item)
                item = []
            in_header = word.startswith("loop_") or (in_header and word.startswith("_"))
            item.append(line)
    if in_text:
        raise _truncated(error)
    yield "\n".join(item)


def _quoted(item: str) -> str:
    """A tag whose value has several words, with that in quotes; other items as they are."""
    tag, *value = item.split(maxsplit=1)
    words = value[0].split(" #")[0].strip() if value else ""
    if not tag.startswith("_") or len(words.split()) < 2 or words[0] in "'\";" or _TAG.search(words):
        return item
    quote = '"' if "'" in words else "'"
    return f"{tag} {quote}{' '.join(words.split())}{quote}"


def _ends_early(text: str, error: str) -> bool:
    """Whether a syntax error is the mark of a file that was cut off: its last loop, or tag, is at fault."""
    if "unterminated" in error:
        return True
    lines = text.rstrip().splitlines()
    place = re.match(r"line (\d+)", error)
    tail = lines[int(place.group(1)) :] if place else []
    return not any(line.lstrip().lower().startswith(("loop_", "data_")) for line in tail) and (
        not tail or "Wrong number of values" in error
    )


def _truncated(error: str) -> StructureError:
    return StructureError(
        f"truncated: a table or value does not end ({error}); fetch the file again, or correct it"
    )
