"""Screening in shards: the same table bit for bit, and what a million rows take from listing to report.

    python -m benchmarks.workflow_shards
    python -m benchmarks.workflow_shards --only rows --rows 1000000
    python -m benchmarks.workflow_shards --only shards --inputs structures.tar.xz --shards 4

The structures of ``--only shards`` are screened. The rows of ``--only rows`` are predictions repeated, each
time with a name and numbers of its own, so that few are duplicates of each other.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.measure import add_model, parser_of, print_table
from mofgap.screening.checked_line import content_of, line_of
from mofgap.screening.listing import read_listing
from mofgap.screening.row import plain_values
from mofgap.screening.shard import Shard, ShardFile
from mofgap.shipped import shipped_folder
from mofgap.study.engine.folder import sha256

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ROWS = 1_000_000
N_SHARDS = 100
"""Of the rows that are repeated."""


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="mofgap-benchmark-", dir=arguments.folder) as folder:
        root = Path(folder)
        if arguments.only != "rows":
            _shards(arguments.inputs, arguments.shards, arguments.model, root)
        if arguments.only != "shards":
            _rows(root, arguments.rows)


def _shards(inputs: Sequence[str], n_shards: int, model: str, root: Path) -> None:
    """Screen whole and in shards, from a listing."""
    whole, gathered = root / "whole.csv", root / "gaps.csv"
    options = ["--model", model, "--window", "1.8", "3.0", "-o"]
    one = str(min(shipped_folder("examples").glob("*.cif")))
    startup = _screen(one, *options, str(root / "one.csv"))
    rows: list[list[Any]] = [["whole", *_screen(*inputs, *options, str(whole))]]
    _call("screen", *inputs, "-o", str(gathered), "--list", str(n_shards))
    for i in range(1, n_shards + 1):
        shard = [f"{gathered}.inputs", *options, str(gathered), "--shard", f"{i}/{n_shards}"]
        rows.append([f"shard {i}/{n_shards}", *_screen(*shard)])
    parts = sorted(root.glob("gaps.csv.shard-*.jsonl"))
    _call("gather", *map(str, parts), "-o", str(gathered))
    print_table(["", "structures", "CPU s"], [["one alone", *startup], *rows])
    print(f"sharded = unsharded bit for bit: {sha256(gathered) == sha256(whole)}")
    n, seconds = int(rows[0][1]), float(rows[0][2])
    rate = (n - startup[0]) / (seconds - startup[1])
    print(f"{rate:.1f} structures a second and core, after a start of {startup[1]:.1f} s")


def _screen(*arguments: str) -> tuple[int, float]:
    """Structures that were screened, and the CPU time of it, the start included."""
    said, seconds, *_ = _call("screen", *arguments)
    found = re.search(r": ([\d,]+) structures? in ", said)
    assert found, said
    return int(found[1].replace(",", "")), seconds


def _call(*arguments: str) -> tuple[str, float, float, float]:
    """What a command said, its CPU seconds, its wall seconds, and its peak memory in MB."""
    command, begun = [sys.executable, "-m", "mofgap", *arguments], time.monotonic()
    before, peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
    with tempfile.TemporaryFile("w+") as file:
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=file, stderr=file) as process:
            while process.poll() is None:
                peak_mb = max(peak_mb, _peak_mb(process.pid))
                time.sleep(0.02)
        seconds, used = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        file.seek(0)
        said = file.read()
    if process.returncode not in (0, 3):
        raise SystemExit(f"mofgap {arguments[0]} ended with {process.returncode}: {said[-2000:]}")
    return said, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, seconds, peak_mb


def _peak_mb(pid: int) -> float:
    """Peak memory so far of the command of a process, MB; 0 once it has ended.

    What `wait4` says would be at least the memory of this process, of which the other began as a copy.
    """
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _rows(root: Path, n_rows: int) -> None:
    """Gather, select from, report and list as many rows as asked, one command after the other."""
    table, parts, archive = root / "many.csv", root / "many.parquet", root / "many.zip"
    _write_shards(root, n_rows, _predictions(root))
    shards = [str(path) for path in sorted(root.glob("many.csv.shard-*.jsonl"))]
    sizes = {"shards": sum(Path(shard).stat().st_size for shard in shards)}
    measured: list[list[Any]] = []
    measured.append(["gather and rank, .csv", *_used("gather", *shards, "-o", str(table))])
    split = ("-o", str(parts), "--part-rows", str(max(1, n_rows // 10)))
    measured.append(["gather and rank, .parquet in 10 parts", *_used("gather", *shards, *split)])
    _write_zip(archive, n_rows)
    listing = ("screen", str(archive), "-o", str(table), "--list", str(N_SHARDS))
    measured.append(["list a zip", *_used(*listing)])
    measured.append([f"read one of {N_SHARDS} listings", *_reading(root / "many.csv.inputs")])
    measured.append(["report", *_used("report", str(parts), "-o", str(root / "many.html"))])
    # Numbers of rows are not those of their files, which are left out: asked for more, it would read all.
    budget = ("--budget", "1", "-o", str(root / "chosen"))
    measured.append(["select one of them", *_used("select", str(parts), *budget)])
    print_table([f"{n_rows:,} rows", "CPU s", "wall s", "peak MB"], measured)
    sizes |= {".csv": table.stat().st_size, ".parquet": sum(p.stat().st_size for p in parts.iterdir())}
    print_table(["on disk", "MB"], [[name, n_bytes / 1e6] for name, n_bytes in sizes.items()])


def _write_zip(path: Path, n_inputs: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(n_inputs):
            archive.writestr(f"{i % 100:02}/structure-{i}.cif", b"")


def _reading(listing: Path) -> tuple[float, float, float]:
    """CPU and wall seconds in which a shard reads its own inputs, and no memory worth the name."""
    begun, begun_wall = time.process_time(), time.monotonic()
    n = sum(1 for _ in read_listing(listing, Shard(1, N_SHARDS)))
    assert n
    return time.process_time() - begun, time.monotonic() - begun_wall, 0.0


def _predictions(root: Path) -> list[dict[str, Any]]:
    """The rows of the examples."""
    table = root / "examples.csv"
    options = ("--window", "1.8", "3.0", "-o", str(table), "--shard", "1/1")
    _call("screen", str(shipped_folder("examples")), *options)
    (shard,) = root.glob("examples.csv.shard-*.jsonl")
    return [plain_values(row) for _, rows in ShardFile.open(shard).inputs() for row in rows]


def _write_shards(root: Path, n_rows: int, predictions: Sequence[dict[str, Any]]) -> None:
    """Shards of repeated rows, with the header of a real one."""
    (real,) = root.glob("examples.csv.shard-*.jsonl")
    header = content_of(real.read_bytes().splitlines(keepends=True)[0])
    for index in range(1, N_SHARDS + 1):
        with Shard(index, N_SHARDS).path(root / "many.csv").open("wb") as file:
            file.write(line_of(header | {"shard": [index, N_SHARDS]}))
            for place in range(index - 1, n_rows, N_SHARDS):
                file.write(line_of([_repeated(place, root / "many", predictions)]))
            file.write(line_of({"n_inputs": n_rows, "names_sha256": "repeated"}))


def _repeated(place: int, root: Path, predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A prediction under another name, which leads to its file, and with other numbers."""
    turn, which = divmod(place, len(predictions))
    row, folder = predictions[which], root / str(turn)
    if which == 0:
        root.mkdir(exist_ok=True)
        folder.symlink_to(shipped_folder("examples").resolve())
    rng = Random(place)
    other = {"file": f"{folder}/{row['file'].rpartition('/')[2]}", "gap_ev": round(rng.uniform(0, 6), 4)}
    for name in ("gap_std_ev", "aleatoric_std_ev", "epistemic_std_ev", "p_in_window", "novelty"):
        other[name] = round(row[name] * rng.uniform(0.3, 1), 4)
    return row | other


def _used(*arguments: str) -> tuple[float, ...]:
    """CPU seconds, wall seconds and peak memory in MB of a command, which go to standard error too."""
    _, *measured = _call(*arguments)
    sys.stderr.write(f"{arguments[0]}: CPU s, wall s, MB: {measured}\n")
    return tuple(measured)


def _arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    examples = [str(shipped_folder("examples"))] * 10
    parser.add_argument("--inputs", nargs="+", default=examples, help="the examples, ten times, without")
    parser.add_argument("--shards", type=int, default=4)
    add_model(parser)
    parser.add_argument("--rows", type=int, default=ROWS, help="of the table that is gathered and read")
    parser.add_argument("--only", choices=["shards", "rows"])
    parser.add_argument("--folder", type=Path, help="where files lie meanwhile: a million rows need 5 GB")
    return parser.parse_args()


if __name__ == "__main__":
    main()
