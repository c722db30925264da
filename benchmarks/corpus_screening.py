"""One screening of many rows: CoRE MOF, and supercells, displaced and damaged copies of it.

Prints the rate of each tenth of the rows, and the memory: neither may grow with the number of rows.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
import warnings
from collections.abc import Iterator
from itertools import count

import numpy as np

from benchmarks.corpus import core_mof
from benchmarks.fuzz import mutated
from benchmarks.measure import one_thread, print_table
from mofgap.crystals.cif import ReadFailure, read_cif_bytes
from mofgap.crystals.convert import crystal_from, to_ase
from mofgap.crystals.inputs import InputItem
from mofgap.gap.predictor import load_model
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.reading import Source
from mofgap.screening.screen import stream_rows


def sources() -> Iterator[Source]:
    """The files of CoRE MOF over and over: as they are, then doubled, displaced and damaged copies."""
    rng = random.Random(0)
    for lap in count():
        for name, data in core_mof():
            if lap % 4 == 0:
                yield InputItem(f"{lap}/{name}", name, data=data)
            elif lap % 4 == 3:
                yield InputItem(f"{lap}/{name}", name, data=mutated(data, data, rng))
            else:
                yield changed(data, f"{lap}/{name}", doubled=lap % 4 == 1, seed=rng.randrange(2**32))


def changed(data: bytes, name: str, *, doubled: bool, seed: int) -> Source:
    """A supercell along the shortest edge, or a copy whose atoms are displaced by 0.02 angstrom."""
    entry = read_cif_bytes(data, name)[0]
    if isinstance(entry, ReadFailure):
        return entry
    atoms = to_ase(entry)
    if doubled:
        shortest = int(np.argmin(np.linalg.norm(entry.cell, axis=1)))
        atoms = atoms.repeat([2 if axis == shortest else 1 for axis in range(3)])
    else:
        atoms.rattle(0.02, seed=seed)
    return crystal_from(atoms, name)


def main() -> None:
    """Print the rate and the memory of each tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--model", default="qmof-pbe")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    one_thread()
    predictor = load_model(options.model, "cpu")
    stream = stream_rows(sources(), predictor, ScreeningConfig(workers=options.workers))
    rows, failed, begun = 0, 0, time.monotonic()
    table, last = [], (0, begun)
    for found in stream:
        rows += len(found)
        failed += sum(row.status == "failed" for row in found)
        if rows >= (len(table) + 1) * options.rows / 10:
            now, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
            table.append([str(rows), failed, (rows - last[0]) / (now - last[1]), round(peak)])
            last = rows, now
            print_table(["rows", "failed", "rows/s", "peak MB"], table[-1:])
        if rows >= options.rows:
            break
    stream.close()
    print(f"{rows} rows in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
