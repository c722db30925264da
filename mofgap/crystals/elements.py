"""Which element a site's type symbol or label means."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import SupportsInt

import gemmi

HYDROGEN, BORON, CARBON, NITROGEN, OXYGEN, FLUORINE, SILICON, TITANIUM = 1, 5, 6, 7, 8, 9, 14, 22

# The heaviest element that an encoder has a place for.
MAX_Z = 100
# A one-letter reading of a longer label (OW1, Cx2) is believed for these alone: W of WAT1 is no tungsten.
_ONE_LETTER_FALLBACK = frozenset("BCFHINOPS")
# Labels of ghosts, phenyl rings and water, which would be read as B, P and Ho.
_NO_ELEMENTS = frozenset({"Bq", "Ph", "Hoh"})
_LETTERS = re.compile(r"[A-Za-z]+")
# More is some other text.
_LONGEST_SYMBOL = 100
# What a type symbol adds to an element: standard uncertainty or charge and valence in brackets, the types of
# force fields (C_R, O_3_z, Zn3f2), and W or w of the oxygen and the hydrogen of water.
_ADDED = re.compile(r"\(\d*[+-]?\d*\)|\([IVX]+\)|_\w*|(?<=\d)f\d|(?<=^[OH])[Ww](?![A-Za-z])")
# Two metals joined as the types of force fields are, in Zn_Co, are no type of zinc.
_TWO_METALS = re.compile(r"([A-Z][a-z]?)\d*_([A-Z][a-z])")
# Molecules, ions and parts of ligands that would be read as Co, Cs, Cf, Cd, Hf, Nd and Po.
_GROUPS = re.compile(r"(?:C(?:O[23]|S2|[DF][2-4])|HF2|ND[2-4]|PO[2-4])(?:\d?-)?|ND4\+")
# Carbonyl, hydroxyl, a phosphoryl, or carbon and nitrogen with F or D; or elements in capitals.
_TWO_READINGS = re.compile(r"((?:C[DFO]|H[FO]|ND|PO))\d*")
_BETWEEN = re.compile(r"[\d.+\-/,;:&|*'\"\s]*")
_SEPARATOR = re.compile(r"[+/,;:&|\s]|\.\d")
# Labels of several elements: parts between separators (Zn1/Co1), with shares (Zn0.5Co0.5), or two metals.
_LABEL_SEPARATOR = re.compile(r"[A-Za-z]\S*[+/,;&|].*[A-Za-z]|(?:[A-Z][a-z]?0?\.\d+(?:\(\d+\))?){2,}$")
_METALS_IN_LABEL = re.compile(r"([A-Z][a-z])\d+[:_\s]?([A-Z][a-z])\d+")
_DEUTERIUM = re.compile(r"(?:D|2H)(?![A-Za-z])", re.IGNORECASE)
_SHARE = re.compile(r"\d*\.\d+")
_LEADING_SHARE = re.compile(r"(\d*\.\d+[\s*:]*)?")
# Shares may be rounded up.
_FULLEST = 1.02

Occupants = tuple[tuple[int, float], ...]
"""Atomic number and share of each element on a site."""


def atomic_number(symbol: str) -> int:
    """Atomic number of an element symbol, 0 if there is none; deuterium is hydrogen."""
    return int(gemmi.Element(symbol).atomic_number) if len(symbol) <= 2 else 0  # gemmi takes Hoh for Ho


def symbol_of(number: SupportsInt) -> str:
    """Symbol of the element with an atomic number."""
    return str(gemmi.Element(int(number)).name)


@lru_cache(maxsize=8192)
def occupants(symbol: str) -> Occupants:
    """The elements that a type symbol names, the likeliest first; none if it is not understood.

    Where no share is written, elements share equally. A molecule (H2O, CH3) is no element, nor a mixture.

    >>> occupants("Cu2+"), occupants("Zn0.7(1)Co0.3"), occupants("Zn2+/Co2+"), occupants("H2O")
    (((29, 1.0),), ((30, 0.7), (27, 0.3)), ((30, 0.5), (27, 0.5)), ())
    """
    plain = _ADDED.sub("", symbol.strip()) if len(symbol) <= _LONGEST_SYMBOL else ""
    names, gaps = _LETTERS.findall(plain), _LETTERS.split(plain)
    numbers = [atomic_number(name.capitalize()) for name in names]
    if not names or not all(numbers) or not all(map(_BETWEEN.fullmatch, gaps)) or _GROUPS.fullmatch(plain):
        return ()
    if (pair := _TWO_METALS.match(symbol)) and all(gemmi.Element(name).is_metal for name in pair.groups()):
        return ()
    if any(n > MAX_Z and name.isupper() for n, name in zip(numbers, names, strict=True)):
        return ()  # CN and NH are groups of atoms, no elements 112 and 113
    if len(names) == 1:
        return _alone(numbers[0], *gaps)
    if not all(map(_SEPARATOR.search, gaps[1:-1])) or not _LEADING_SHARE.fullmatch(gaps[0]):
        return ()
    return _sharing(numbers, gaps)


def _alone(number: int, before: str, after: str) -> Occupants:
    """One element, perhaps with its share (0.5Zn) or mass number (2H), with numbers or a charge after it."""
    if not before and ("." not in after or "+" in after or "-" in after):
        return ((number, 1.0),)
    if before.isdecimal():
        return ((number, 1.0),) if number <= int(before) < 300 else ()
    return _sharing([number], [before, after]) if _LEADING_SHARE.fullmatch(before) else ()


def _sharing(numbers: list[int], gaps: list[str]) -> Occupants:
    """Elements with their shares, all before or all after them; those without share the rest equally."""
    written = [_SHARE.findall(gap) for gap in gaps]
    mine, other = (written[:-1], written[-1]) if written[0] else (written[1:], [])
    known = [float(each[0]) for each in mine if each]
    if other or any(len(each) > 1 for each in mine) or sum(known) > _FULLEST:
        return ()
    rest = (max(1.0 - sum(known), 0.0) / (len(mine) - len(known))) if len(known) < len(mine) else 0.0
    shares: dict[int, float] = {}
    for number, each in zip(numbers, mine, strict=True):
        shares[number] = shares.get(number, 0.0) + (float(each[0]) if each else rest)
    return tuple(sorted(shares.items(), key=lambda each: -each[1]))


def label_occupants(label: str) -> Occupants:
    """The elements of a label such as Zn1/Co1 that names several; none of one that does not."""
    if len(label) > _LONGEST_SYMBOL:  # the search would take the square of its length
        return ()
    pair = _METALS_IN_LABEL.fullmatch(label.strip())
    if pair and all(gemmi.Element(name).is_metal for name in pair.groups()):
        label = "/".join(pair.groups())
    found = occupants(label) if _LABEL_SEPARATOR.match(label) else ()
    return found if len(found) > 1 else ()


@lru_cache(maxsize=8192)
def candidates(label: str) -> tuple[int, ...]:
    """Atomic numbers that a site label can mean, the likeliest first.

    >>> candidates("Cu2"), candidates("OW1"), candidates("CA1"), candidates("Q1")
    ((29, 6), (8,), (20, 6), ())
    """
    match = _LETTERS.match(label.strip())
    if match is None:
        return ()
    letters = match.group().capitalize()
    if letters in _NO_ELEMENTS:
        return ()
    found = [atomic_number(letters[:2])]
    if len(letters) == 1 or letters[0] in _ONE_LETTER_FALLBACK:
        found.append(atomic_number(letters[0]))
    if found[0] > MAX_Z and match.group()[1:2].isupper():  # CN, NH and OG are atoms of ligands
        found = found[1:]
    return tuple(dict.fromkeys(number for number in found if number))


def ambiguous(symbols: Iterable[str], stated: Collection[int] = ()) -> list[str]:
    """A warning of symbols such as CO, read as an element, that may be a group of atoms; none without any.

    Args:
        symbols: The symbols.
        stated: Atomic numbers that the formula names, which are certain.
    """
    matches = filter(None, map(_TWO_READINGS.fullmatch, sorted(set(symbols))))
    found = [match for match in matches if atomic_number(match[1]) not in stated]
    if not found:
        return []
    read = ", ".join(f"{match[0]} as {match[1].capitalize()}" for match in found)
    return [f"ambiguous-element: read {read}; write the element so, or each atom of a group by itself"]


def deuterium(names: Iterable[str]) -> list[str]:
    """A note of symbols or labels of deuterium, which is read as hydrogen; none without any."""
    if not any(_DEUTERIUM.match(name.strip()) for name in names):
        return []
    return ["deuterium: atoms of D were read as H"]
