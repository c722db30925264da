"""Screening in shards: the same table bit for bit, and how fast structures are screened and gathered.

    python -m benchmarks.workflow_shards
    python -m benchmarks.workflow_shards --inputs structures.tar.xz --shards 4 --millions 10

The last table says what many structures take at the rates measured here: a sum, and no measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import print_table
from mofgap.crystals.inputs import expand_inputs
from mofgap.screening.row import Row
from mofgap.screening.shard import Shard
from mofgap.shipped import shipped_folder
from mofgap.study.engine.folder import sha256

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
GATHER_ROWS = 1_000_000


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="mofgap-benchmark-") as folder:
        root = Path(folder)
        rate, bytes_a_row = _shards(arguments.inputs, arguments.shards, arguments.model, root)
        passing = {kind: _passing(root, kind) for kind in ("zip", "folder")}
        seconds_a_row, kilobytes_a_row = _gathering(root, arguments.rows)
    n = arguments.millions * 1_000_000
    print_table(
        [f"{arguments.millions:g} million structures, at these rates", ""],
        [
            ["core hours of screening", n / rate / 3600],
            ["hours on 1,000 cores", n / rate / 3600 / 1000],
            *[[f"hours a shard to pass over a {k}", n * s / 3600] for k, s in passing.items()],
            ["GB of shards", n * bytes_a_row / 1e9],
            ["hours to gather", n * seconds_a_row / 3600],
            ["GB of memory to gather", n * kilobytes_a_row / 1e6],
        ],
    )


def _shards(inputs: Sequence[str], n_shards: int, model: str, root: Path) -> tuple[float, float]:
    """Screen whole and in shards; returns structures a second of CPU time, and bytes of a row in a shard."""
    whole, gathered = root / "whole.csv", root / "gaps.csv"
    options = [*inputs, "--model", model, "--window", "1.8", "3.0"]
    startup = _screen([str(_first(inputs)), *options[len(inputs) :], "-o", str(root / "one.csv")])
    rows = [["whole", *_screen([*options, "-o", str(whole)])]]
    for i in range(1, n_shards + 1):
        shard = [*options, "-o", str(gathered), "--shard", f"{i}/{n_shards}"]
        rows.append([f"shard {i}/{n_shards}", *_screen(shard)])
    parts = sorted(root.glob("gaps.csv.shard-*.jsonl"))
    _call("gather", *map(str, parts), "-o", str(gathered))
    print_table(["", "structures", "CPU s"], [["one alone", *startup], *rows])
    print(f"sharded = unsharded bit for bit: {sha256(gathered) == sha256(whole)}")
    n, seconds = int(rows[0][1]), float(rows[0][2])
    rate = (n - startup[0]) / (seconds - startup[1])
    print(f"{rate:.1f} structures a second and core, after a start of {startup[1]:.1f} s")
    return rate, sum(part.stat().st_size for part in parts) / n


def _first(inputs: Sequence[str]) -> Path:
    """A CIF to measure the start with."""
    return next(iter(sorted(shipped_folder("examples").glob("*.cif"))), Path(*inputs[:1]))


def _screen(arguments: Sequence[str]) -> tuple[int, float]:
    """Structures that were screened, and the CPU time of it, the start included."""
    said, seconds = _call("screen", *arguments)
    summary = next(line for line in said.splitlines() if " structures in " in line)
    return int(summary.split(": ", 1)[1].split()[0]), seconds


def _call(*arguments: str) -> tuple[str, float]:
    """What a command said, and its CPU time in seconds, which other programs hardly disturb."""
    command = [sys.executable, "-m", "mofgap", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    return done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _passing(root: Path, kind: str, n_inputs: int = 20_000) -> float:
    """CPU seconds that a shard takes to pass over an input of another shard, in a zip or a folder."""
    names = [f"{i % 100:02}/structure-{i}.cif" for i in range(n_inputs)]
    place = root / f"many.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name in names:
                archive.writestr(name, b"")
    else:
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
    begun = time.process_time()
    assert not list(Shard(n_inputs + 1, n_inputs + 1).take(expand_inputs([place])))
    seconds = time.process_time() - begun
    print(f"passing over {n_inputs:,} inputs in a {kind}: {seconds:.2f} s of CPU time")
    return seconds / n_inputs


def _gathering(root: Path, n_rows: int) -> tuple[float, float]:
    """Gather made-up shards of many rows; returns CPU seconds and kilobytes of memory of one row more."""
    row = json.loads(next(root.glob("gaps.csv.shard-*.jsonl")).read_text().splitlines()[1])[0]
    few, many = (_gather(root, row, n) for n in (n_rows // 10, n_rows))
    more = n_rows - n_rows // 10
    return (many[0] - few[0]) / more, (many[1] - few[1]) / more


def _gather(root: Path, row: dict[str, Any], n_rows: int) -> tuple[float, float]:
    """CPU seconds and kilobytes of memory of gathering a shard of copies of a row, with a name each."""
    shard, output = Shard(1, 1), root / f"{n_rows}.csv"
    inputs = [(Row(**{**row, "file": f"{row['file']}-{i}"}),) for i in range(n_rows)]
    shard.n_inputs = n_rows
    header = {"rank_by": "low", "top": None, "novel": "keep", "coverage": 0.9}
    shard.write(shard.path(output), header, inputs)
    command = [sys.executable, "-m", "mofgap", "gather", str(shard.path(output)), "-o", str(output)]
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"mofgap gather ended with {process.returncode}")
    seconds = used.ru_utime + used.ru_stime
    print(f"gathering {n_rows:,} rows: {seconds:.1f} s of CPU time, {used.ru_maxrss / 1024:.0f} MB")
    return seconds, float(used.ru_maxrss)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    examples = [str(shipped_folder("examples"))] * 10
    parser.add_argument("--inputs", nargs="+", default=examples, help="the examples, ten times, without")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--model", default="qmof-pbe")
    parser.add_argument("--rows", type=int, default=GATHER_ROWS, help="of the gathering that is timed")
    parser.add_argument("--millions", type=float, default=10.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
