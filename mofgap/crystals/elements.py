"""Which element a site's symbol or label means."""

from __future__ import annotations

import re
from functools import lru_cache

import gemmi

# The heaviest element that an encoder has a place for.
MAX_Z = 100
# A one-letter reading of a longer name (OW1, Cx2) is believed for these alone: W of WAT1 is no tungsten.
_ONE_LETTER_FALLBACK = frozenset("BCFHINOPS")
_LETTERS = re.compile(r"[A-Za-z]+")
_FORMULA_TERM = re.compile(r"([A-Z][a-z]?)\s*([0-9]*\.?[0-9]*)")
# As in 0.8Zn + 0.2Co, Zn0.5Co0.5, Zn/Co.
_SHARED = re.compile(r"[A-Za-z][\d.()]*\s*[+/,]\s*[\d.]*[A-Z]|\.\d+[A-Z]")


def is_shared(symbol: str) -> bool:
    """Whether a type symbol names several elements that share a site."""
    return _SHARED.search(symbol) is not None


def _atomic_number(symbol: str) -> int:
    """Atomic number of an element symbol, 0 if there is none; deuterium and tritium are hydrogen."""
    return 1 if symbol in ("D", "T") else int(gemmi.Element(symbol).atomic_number)


@lru_cache(maxsize=8192)
def candidates(text: str) -> tuple[int, ...]:
    """Atomic numbers that a type symbol or a site label can mean, the likeliest first.

    >>> candidates("Cu2+"), candidates("OW1"), candidates("CA1"), candidates("Q1")
    ((29, 6), (8,), (20, 6), ())
    """
    match = _LETTERS.match(text.strip())
    if match is None:
        return ()
    letters = match.group().capitalize()
    if letters == "T" and text.strip() != "T":  # T1 is a tetrahedral site of a zeolite
        return ()
    found = [_atomic_number(letters[:2])]
    if len(letters) == 1 or letters[0] in _ONE_LETTER_FALLBACK:
        found.append(_atomic_number(letters[0]))
    if found[0] > MAX_Z and match.group()[1:2].isupper():  # CN, NH and OG are atoms of ligands
        found = found[1:]
    return tuple(dict.fromkeys(number for number in found if number))


def parse_formula(text: str) -> dict[int, float]:
    """Counts by atomic number of a formula such as ``C24 H12 O13 Zn4``; empty if it cannot be read."""
    counts: dict[int, float] = {}
    for symbol, count in _FORMULA_TERM.findall(text):
        number = _atomic_number(symbol)
        if not number:
            return {}
        counts[number] = counts.get(number, 0.0) + (float(count) if count.strip(".") else 1.0)
    return counts
