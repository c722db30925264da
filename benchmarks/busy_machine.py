"""Time of an epoch of ``mofgap train`` alone, and beside other programs that keep a core busy each.

Threads that spin, torch's default, are compared with threads that sleep, as mofgap sets them, and with a
single thread. All are measured in turn in one run, since ratios alone mean something where others work too.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import at_most, print_table
from mofgap.shipped import shipped_folder
from mofgap.threads import WAITING, usable_cores
from mofgap.training.labels import read_labels

WAYS: dict[str, dict[str, str]] = {
    "threads spin (torch's default)": {"KMP_BLOCKTIME": "200"},  # set, so that mofgap leaves it so
    "threads sleep (mofgap)": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


@contextmanager
def neighbours(n: int) -> Iterator[None]:
    """Keep so many cores busy while open."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def epoch_seconds(table: Path, folder: Path, epochs: int, environment: Mapping[str, str]) -> float:
    """The shortest epoch of a training but the first, wall-clock seconds."""
    own = {name: value for name, value in os.environ.items() if name not in (*WAITING, "OMP_NUM_THREADS")}
    command = [sys.executable, "-m", "mofgap", "train", str(table), "-o", str(folder), "--device", "cpu"]
    subprocess.run(
        [*command, "--epochs", str(epochs)], env=own | environment, check=True, capture_output=True
    )
    with (folder / "training" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return min(float(row["seconds"]) for row in list(csv.DictReader(file))[1:])


def main() -> None:
    """Print the time of an epoch, by the way threads wait and by the number of busy neighbours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100, help="training structures")
    parser.add_argument("--epochs", type=int, default=3, help="of each training; the shortest counts")
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    data = shipped_folder("data") / "quickstart"
    frame = read_labels(data / "labels.csv", data / "structures.zip", "gap_ev").frame
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "table.parquet"
        train, val = (frame[frame.split == split] for split in ("train", "val"))
        rows = at_most(train, asked.limit)
        frame.loc[[*rows.index, *at_most(val, 10).index]].to_parquet(table)
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for n in asked.neighbours:
            for way, environment in WAYS.items():
                with neighbours(n):
                    folder = Path(temporary) / f"{len(found[way])}-{list(WAYS).index(way)}"
                    found[way].append(epoch_seconds(table, folder, asked.epochs, environment))
    print(
        f"{usable_cores()} cores, {len(rows)} training structures; seconds an epoch (over the first column)"
    )
    cells = [(way, *(f"{s:.2f} ({s / times[0]:.1f}x)" for s in times)) for way, times in found.items()]
    print_table(("", *(f"{n} busy" for n in asked.neighbours)), cells)


if __name__ == "__main__":
    main()
