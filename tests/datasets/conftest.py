"""Small real frameworks, and files of the usual formats made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mofgap.crystals.convert import to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import read_all

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
FILES = (
    "Hofmann-FeNi_LUFQUZ.cif",
    "SIFSIX-3-Zn_FUDQIF.cif",
    "MIL-53-Al-open_SABVUN.cif",
    "MIL-53-Ga_COMDOY.cif",
)
GAPS_EV = (0.4, 3.25, 3.5, 3.125)


@pytest.fixture(scope="session")
def crystals() -> list[Crystal]:
    """Four frameworks, named ``qmof-000000a`` to ``qmof-000000d``."""
    read = [entry for name in FILES for entry in read_all(EXAMPLES / name)]
    return [
        replace(entry, structure_id=f"qmof-000000{letter}")
        for entry, letter in zip(read, "abcd", strict=True)
        if isinstance(entry, Crystal)
    ]


@pytest.fixture(scope="session")
def structure_dicts(crystals: list[Crystal]) -> list[dict[str, Any]]:
    """The frameworks as pymatgen writes them, charges at the sites, one charge of the last one missing."""
    made = []
    for crystal in crystals:
        structure = to_pymatgen(crystal)
        charges: list[float | None] = [0.25 * (i % 5) for i in range(len(structure))]
        if crystal is crystals[-1]:
            charges[3] = None
        structure.add_site_property("pbe_ddec_charge", charges)
        structure.add_site_property("pbe_magmom", [0.5] * len(structure))
        made.append(structure.as_dict())
    return made
