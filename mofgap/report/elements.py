"""Elements covered, as the cells of a periodic table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LAYOUT = """
H  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  .  He
Li Be .  .  .  .  .  .  .  .  .  .  B  C  N  O  F  Ne
Na Mg .  .  .  .  .  .  .  .  .  .  Al Si P  S  Cl Ar
K  Ca Sc Ti V  Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y  Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I  Xe
Cs Ba .  Hf Ta W  Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
.  .  La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu .
.  .  Ac Th Pa U  Np Pu Am Cm .  .  .  .  .  .  .  .
"""
N_SHADES = 4


def colours_of(symbols: Iterable[str]) -> dict[str, str]:
    """Colours of elements as Jmol has them, such as ``#ff0d0d``, sorted by atomic number.

    http://jmol.sourceforge.net/jscolors, as ASE carries them.
    """
    from ase.data import atomic_numbers
    from ase.data.colors import jmol_colors

    found = sorted({s for s in symbols if s in atomic_numbers}, key=atomic_numbers.__getitem__)
    rgb = {s: (255 * jmol_colors[min(atomic_numbers[s], len(jmol_colors) - 1)]).round() for s in found}
    return {s: "#" + "".join(f"{int(part):02x}" for part in parts) for s, parts in rgb.items()}


@dataclass(frozen=True)
class Cell:
    """A cell: its element, place (from 1), number of structures, and shade 0 (none) to `N_SHADES`."""

    symbol: str
    row: int
    column: int
    count: int
    shade: int


def periodic_table(counts: Mapping[str, int]) -> list[Cell]:
    """The cells in reading order; shades grow with the logarithm of the count."""
    most = max(counts.values(), default=0)

    def shade(count: int) -> int:
        if count == 0:
            return 0
        return 1 + int((N_SHADES - 1) * math.log1p(count) / math.log1p(most))

    return [
        Cell(symbol, row, column, counts.get(symbol, 0), shade(counts.get(symbol, 0)))
        for row, line in enumerate(_LAYOUT.strip().splitlines(), start=1)
        for column, symbol in enumerate(line.split(), start=1)
        if symbol != "."
    ]
