"""Write ``mofgap/encoders/elements.csv``, the properties of elements that encoders read and compare.

All values come from the package mendeleev (MIT licence), whose pages name the original tables: Pauling
electronegativities (CRC Handbook) with those of Allen where Pauling has none, covalent radii of Pyykkö and
Atsumi (Chem. Eur. J. 15, 186 (2009)), ionisation energies of NIST, dipole polarizabilities of Schwerdtfeger
and Nagle (Mol. Phys. 117, 1200 (2019)), main oxidation states of Wikipedia. Run it with
``pip install mendeleev``; nothing else needs that package.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
from mendeleev import element

from mofgap.crystals.elements import MAX_Z

PATH = Path(__file__).parents[1] / "mofgap/encoders/elements.csv"
PAULING_PER_EV = 0.169
"""From Allen's energies, eV, to the scale of Pauling (Allen, J. Am. Chem. Soc. 111, 9003 (1989))."""


def outer_electrons(configuration: str, block: str) -> dict[str, int]:
    """Electrons of the open shells by kind; a full shell below those of the block is core."""
    shells = re.findall(r"\d([spdf])(\d*)", configuration.partition("]")[2] or configuration)
    counts = {kind: int(n or 1) for kind, n in shells}
    core = {"s": "", "p": "df", "d": "f", "f": ""}[block]
    return {kind: 0 if kind in core else counts.get(kind, 0) for kind in "spdf"}


def electronegativities(elements: list[Any]) -> list[float]:
    """On the scale of Pauling; between neighbours in the table where there is no value."""
    values = [
        each.en_pauling or (each.en_allen and PAULING_PER_EV * each.en_allen) or np.nan for each in elements
    ]
    known = np.isfinite(values)
    places = np.arange(len(values))
    filled: list[float] = np.interp(places, places[known], np.array(values)[known]).tolist()
    return filled


def main() -> None:
    """Write the table."""
    elements = [element(z) for z in range(1, MAX_Z + 1)]
    rows = []
    for each, electronegativity in zip(elements, electronegativities(elements), strict=True):
        states = [s.oxidation_state for s in each._oxidation_states if s.category == "main"] or [0]
        outer = outer_electrons(each.econf, each.block)
        rows.append(
            {
                **{"atomic_number": each.atomic_number, "symbol": each.symbol},
                **{"group": each.group_id or 3, "period": each.period, "block": each.block},
                **{f"{kind}_electrons": n for kind, n in outer.items()},
                "electronegativity": f"{electronegativity:.3g}",
                "covalent_radius_pm": f"{each.covalent_radius_pyykko:g}",
                "ionisation_energy_ev": f"{each.ionenergies[1]:.4g}",
                "polarizability_au": f"{each.dipole_polarizability:.4g}",
                **{"lowest_oxidation_state": min(states), "highest_oxidation_state": max(states)},
            }
        )
    with PATH.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
