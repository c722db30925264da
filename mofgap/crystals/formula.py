"""Chemical formulas: read from text, and written in Hill order."""

from __future__ import annotations

import re
from collections import Counter
from functools import reduce
from math import gcd

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.elements import atomic_number, symbol_of

_TERM = re.compile(r"([A-Z][a-z]?)\s*([0-9]*\.?[0-9]*)")
# A count of what is in brackets, other than 1, or a letter for one. A sign behind it makes it a charge.
_COUNTED_BRACKETS = re.compile(
    r"[)\]}]\s*(?!1(?![0-9.]))[0-9.]+(?![0-9.+-])"
    r"|(?<![A-Za-z0-9.])(?!1\s*[(\[{])(?=[0-9.a-z])[0-9.]*[a-z]?\s*[(\[{]"
)
# The charge of the whole, such as 2+.
_CHARGE = re.compile(r"\s(?:[0-9.]*[+-]|[+-][0-9.]+)(?=[\s,]|$)")
# More is some other text.
_LONGEST = 1000


def parse_formula(text: str) -> dict[int, float]:
    """Counts by atomic number of a formula such as ``C24 H12 O13 Zn4``; empty if it cannot be read.

    One that counts what is in brackets, such as ``Zn (C O2)2``, is not read.
    """
    counts: dict[int, float] = {}
    if _COUNTED_BRACKETS.search(text[: _LONGEST + 1]):
        return counts
    for symbol, count in _TERM.findall(_CHARGE.sub(" ", text[: _LONGEST + 1])):
        number = atomic_number(symbol)
        if not number or len(text) > _LONGEST or len(count) > 20:
            return {}
        counts[number] = counts.get(number, 0.0) + (float(count) if count.strip(".") else 1.0)
    return counts


def formula_sum(atomic_numbers: NDArray[np.int64]) -> str:
    """The formula in Hill order, such as ``C24 H12 O13 Zn4``."""
    counts = Counter(symbol_of(number) for number in atomic_numbers)
    first = ["C", "H"] if "C" in counts else []
    order = [symbol for symbol in first if symbol in counts] + sorted(set(counts) - set(first))
    return " ".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in order)


def reduced_formula(atomic_numbers: NDArray[np.int64]) -> str:
    """The formula in Hill order with the smallest whole counts, such as ``C24H12O13Zn4``."""
    found = np.bincount(atomic_numbers)
    divisor = reduce(gcd, found[found > 0].tolist())
    return formula_sum(np.repeat(np.arange(len(found)), found // divisor)).replace(" ", "")
