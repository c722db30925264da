"""One screening of many rows: CoRE MOF, and supercells, displaced and damaged copies of it.

Packs them into an archive, gives it to ``mofgap screen``, and prints the rate of each tenth of the rows and
the memory: neither may grow with the number of rows. Half way it kills the screening and starts it again with
``--resume``. Then it compares the gaps of the copies with those of the files they were made from.
"""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.corpus import core_mof
from benchmarks.fuzz import mutated
from benchmarks.measure import parser_of, print_table
from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.convert import crystal_from, to_ase
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif
from mofgap.screening.journal import journal_path

DISPLACED_ANGSTROM = 0.01
KINDS = ("displaced", "doubled", "damaged")
_FINISHED, _FAILED = b'"content":{"source":', b'"status":"failed"'
_TICKS = os.sysconf("SC_CLK_TCK")


def rows(largest: int, copies: int, every: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files in an order by chance, those of small ones followed by copies.

    Args:
        largest: Of a file that is copied, bytes.
        copies: Of each such file, of the `KINDS` in turn.
        every: Take each n-th of the others.
    """
    rng = random.Random(0)
    files = list({data: name for name, data in core_mof()}.items())
    rng.shuffle(files)
    for place, (data, name) in enumerate(files):
        if len(data) > largest:
            if place % every == 0:
                yield f"original/{name}", data
            continue
        yield f"original/{name}", data
        entry = read_cif_bytes(data, name)[0]
        for place in range(copies):
            kind, again = KINDS[place % len(KINDS)], place // len(KINDS)
            if kind == "damaged":
                yield f"{kind}-{again}/{name}", mutated(data, data, rng)
            elif isinstance(entry, Crystal):
                yield f"{kind}-{again}/{name}", write_cif(changed(entry, kind, again)).encode()


def changed(crystal: Crystal, kind: str, again: int) -> Crystal:
    """A supercell of two cells along an axis, or a copy with displaced atoms."""
    if kind == "doubled":
        repeats = [2 if axis == again % 3 else 1 for axis in range(3)]
        return crystal_from(to_ase(crystal).repeat(repeats), crystal.structure_id)
    shift = np.random.default_rng(again).normal(0.0, DISPLACED_ANGSTROM, (crystal.n_atoms, 3))
    return replace(crystal, frac_coords=crystal.frac_coords + shift @ np.linalg.inv(crystal.cell))


def pack(path: Path, some: Iterable[tuple[str, bytes]]) -> None:
    """Write rows into an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for place, (name, data) in enumerate(some):
            archive.writestr(f"{place:07d}/{name}", data)  # mofgap takes members by name


def watch(process: subprocess.Popen[bytes], journal: Path, n_rows: int, until: float) -> None:
    """Print rows, failures, rates and memory of each tenth, from the journal and from the kernel.

    The process is killed once ``until`` rows are done.
    """
    offset, n_done, n_failed, rest = 0, 0, 0, b""
    last: tuple[int, float, float] | None = None  # rows, seconds, CPU seconds; none until the first new row
    while process.poll() is None:
        time.sleep(1.0)
        if not journal.exists():
            continue
        with journal.open("rb") as file:
            file.seek(offset)
            *lines, rest = (rest + file.read()).split(b"\n")
            offset = file.tell()
        n_done += sum(_FINISHED in line for line in lines)
        n_failed += sum(_FAILED in line for line in lines)
        now, (cpu, megabytes) = time.monotonic(), usage(process.pid)
        if last is None:
            last = n_done, now, cpu  # what an earlier start did counts for no rate
        elif (new := n_done - last[0]) >= n_rows / 10:
            rates = new / (now - last[1]), 1e3 * (cpu - last[2]) / new
            print_table(
                ["rows", "failed", "rows/s", "CPU ms/row", "peak MB"],
                [[str(n_done), n_failed, *rates, megabytes]],
            )
            last = n_done, now, cpu
        if n_done >= until:
            print(f"killed after {n_done} rows", flush=True)
            process.kill()
            return


def usage(pid: int) -> tuple[float, int]:
    """CPU seconds and peak memory in MB of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text().split("VmHWM:")
    return (int(words[11]) + int(words[12])) / _TICKS, int(status[1].split()[0]) // 1024 if status[1:] else 0


def compare(path: Path) -> None:
    """Print how far the gaps of displaced and doubled copies are from those of their files."""
    table = pd.read_csv(path, usecols=["file", "status", "gap_ev", "gap_std_ev"])
    table = table[table["status"] != "failed"]
    table[["kind", "name"]] = table["file"].str.extract(r":\d{7}/(\w+)[-\d]*/(.*)")
    is_original = table["kind"] == "original"
    copies = table[~is_original].merge(table[is_original], on="name", suffixes=("", "_of_file"))
    copies["moved"] = (copies["gap_ev"] - copies["gap_ev_of_file"]).abs()
    copies["in_std"] = copies["moved"] / copies["gap_std_ev_of_file"]
    for kind in KINDS[:2]:
        some = copies[copies["kind"] == kind].sort_values("moved")
        cells = [[what, *some[what].quantile([0.5, 0.95, 0.999, 1.0])] for what in ("moved", "in_std")]
        print(f"{len(some)} {kind} copies; farthest: {', '.join(some['name'].iloc[::-1].unique()[:5])}")
        print_table(["gap against that of the file", "median", "95 %", "99.9 %", "largest"], cells)


def main() -> None:
    """Print the rate and the memory of each tenth, then how far gaps of copies are from their files'."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--largest", type=int, default=6_000, help="copy files of at most so many bytes")
    parser.add_argument("--copies", type=int, default=36, help="of each such file")
    parser.add_argument("--every", type=int, default=10, help="take each n-th of the larger files")
    parser.add_argument("--folder", type=Path, help="where archive and table stay; an archive is used again")
    parser.add_argument("--level", default="pbe")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        archive, target = folder / "rows.zip", folder / "table.csv"
        if not archive.exists():
            pack(archive, islice(rows(options.largest, options.copies, options.every), options.rows))
        with zipfile.ZipFile(archive) as file:
            n_rows = len(file.namelist())
        command = [sys.executable, "-m", "mofgap", "screen", str(archive), "-o", str(target)]
        command += ["--level", options.level, "--resume"]
        for until in (n_rows / 2, np.inf):
            begun = time.monotonic()
            with subprocess.Popen(
                command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
            ) as process:
                watch(process, journal_path(target), n_rows, until)
            print(f"exit code {process.returncode} after {time.monotonic() - begun:.0f} s", flush=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(f"{n_rows} inputs, peak memory {peak} MB")
        compare(target)


if __name__ == "__main__":
    main()
