"""Reading CIFs: mofgap's ladder beside pymatgen's and ASE's parsers on the example CIFs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import ase.io
from pymatgen.io.cif import CifParser

from benchmarks.measure import cpu_seconds, example_texts, parser_of, print_times
from mofgap.crystals.checks import check_crystal
from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal


def read_and_check(text: str) -> None:
    """Read a CIF and look for what a chemist should check."""
    for entry in read_cif(text):
        if isinstance(entry, Crystal):
            check_crystal(entry)


def main() -> None:
    """Print the time of each reader."""
    parser = parser_of(__doc__)
    parser.add_argument("--limit", type=int, help="read only so many examples")
    parser.add_argument("--repeats", type=int, default=5, help="times each is read; the median counts")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks: dict[str, Callable[[str], object]] = {
        "mofgap": read_cif,
        "mofgap with checks": read_and_check,
        "pymatgen": lambda text: CifParser.from_str(text).parse_structures(primitive=False),
        "ase": lambda text: ase.io.read(io.StringIO(text), format="cif"),
    }
    texts = example_texts(options.limit)
    print(f"{len(texts)} example CIFs")
    print_times(cpu_seconds(tasks, texts, options.repeats), "mofgap")


if __name__ == "__main__":
    main()
