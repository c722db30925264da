"""The slower, more lenient readers, tried on files whose syntax gemmi refuses."""

from __future__ import annotations

import io
import re
import warnings as python_warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gemmi import cif

from mofgap.crystals.elements import parse_formula
from mofgap.crystals.sites import CifError, Sites

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Reading = tuple[NDArray[np.float64], Sites]

# What these packages were seen to raise on damaged files.
READER_ERRORS = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ArithmeticError,
    StopIteration,
)


_FORMULA = re.compile(r"""^\s*_chemical_formula_sum\s+(?:'([^'\n]*)'|"([^"\n]*)"|(\S+))""", re.MULTILINE)


def _sites(labels: list[str], numbers: list[int], frac: Any, occupancies: list[float]) -> Sites:
    none = np.zeros(len(labels), dtype=np.int64)
    coords = np.array(frac, dtype=np.float64).reshape(-1, 3)
    if not len(coords) or not np.isfinite(coords).all() or not all(0 < z < 119 for z in numbers):
        raise ValueError("atom sites without coordinates or element")
    return Sites(
        tuple(labels), np.array(numbers, dtype=np.int64), coords, np.array(occupancies, float), none, none
    )


def _pymatgen(text: str, site_tolerance: float, occupancy_tolerance: float) -> Reading:
    from pymatgen.io.cif import CifParser

    parser = CifParser(
        io.StringIO(text), site_tolerance=site_tolerance, occupancy_tolerance=occupancy_tolerance
    )
    structure = parser.parse_structures(primitive=False, check_occu=False)[0]
    labels, numbers, frac, occupancies = [], [], [], []
    for site in structure:
        for species, amount in site.species.items():
            labels.append(site.label)
            numbers.append(int(species.Z))
            frac.append(site.frac_coords)
            occupancies.append(float(amount))
    return np.array(structure.lattice.matrix), _sites(labels, numbers, frac, occupancies)


def _ase(text: str) -> Reading:
    from ase.io.cif import read_cif
    from ase.spacegroup.spacegroup import SpacegroupError

    try:
        atoms = read_cif(io.StringIO(text), slice(None))[0]
    except SpacegroupError as error:
        raise ValueError(str(error)) from error
    symbols = list(atoms.get_chemical_symbols())
    kinds = atoms.arrays["spacegroup_kinds"]
    shares = atoms.info.get("occupancy", {})
    occupancies = [
        shares.get(str(kind), {}).get(symbol, 1.0) for kind, symbol in zip(kinds, symbols, strict=True)
    ]
    numbers = [int(number) for number in atoms.numbers]
    return np.array(atoms.cell), _sites(symbols, numbers, atoms.get_scaled_positions(wrap=False), occupancies)


def stated_formula(text: str) -> dict[int, float]:
    """Composition by atomic number from ``_chemical_formula_sum``, without a parser; empty if not stated."""
    match = _FORMULA.search(text)
    return parse_formula(next(filter(None, match.groups()), "")) if match else {}


# The last value asks pymatgen to merge sites up to 0.01 of a cell edge apart and to accept crowded sites.
RUNGS: dict[str, Callable[[str], Reading]] = {
    "pymatgen": lambda text: _pymatgen(text, 1e-4, 1.0),
    "pymatgen-tolerant": lambda text: _pymatgen(text, 1e-2, 100.0),
    "ase": _ase,
}


def syntax_error(text: str) -> str:
    """What gemmi objects to in a text; empty if nothing."""
    try:
        cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        return readable(error)
    return ""


def readable(error: Exception) -> str:
    """Gemmi's complaint with the place as ``line 13``."""
    return re.sub(r"^string:(\d+)(?::\d+\(\d+\))?", r"line \1", str(error))


def _ends_early(text: str, error: str) -> bool:
    """Whether a syntax error is the mark of a file that was cut off."""
    if "unterminated" in error:
        return True
    lines = text.rstrip().splitlines()
    place = re.match(r"line (\d+)", error)
    tail = lines[int(place.group(1)) :] if place else []
    # The faulty loop, or tag, is the last one of the file.
    return not any(line.lstrip().lower().startswith(("loop_", "data_")) for line in tail) and (
        not tail or "Wrong number of values" in error
    )


def read_leniently(text: str, error: str) -> tuple[str, Reading]:
    """The first rung that reads a text of one data block, and what it read.

    Args:
        text: The data block.
        error: What gemmi objects to, from `syntax_error`.

    Raises:
        CifError: the text was cut off, or no rung reads it.
    """
    if _ends_early(text, error):
        raise CifError(
            f"truncated: the file ends in the middle of a table or value ({error}); fetch it again"
        )
    for name, read in RUNGS.items():
        try:
            with python_warnings.catch_warnings():
                python_warnings.simplefilter("ignore")
                return name, read(text)
        except READER_ERRORS:
            continue
    raise CifError(f"syntax: {error}, and no other reader understands it; correct or export the file again")
