"""What a run costs over its stages by hand, and what two jobs gain.

Everything is measured in the same run, on the same configuration, each time from an empty run folder::

    python -m benchmarks.workflow_run configs/quickstart.yaml
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.measure import parser_of, print_table
from mofgap.study.engine.folder import sha256

BY_HAND = """
import sys
from pathlib import Path
from mofgap.configuration import load
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.plan import plan
import torch
torch.set_num_threads(1)
config, run = load(RunConfig, Path(sys.argv[1]), sys.argv[3:]), Path(sys.argv[2])
run.mkdir(parents=True)
for stage in plan(config, run):
    stage.work(config, run)
"""
"""Every stage, one after the other, in one process: no hashes, no locks, no pool."""

_PR_SET_CHILD_SUBREAPER = 36
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mofgap-benchmark-") as folder:
        _overhead(options.config, Path(folder), options.set)


def _overhead(config: Path, root: Path, settings: Sequence[str]) -> None:
    """By hand, with one job, with two, and once more with nothing to do."""
    by_hand = [sys.executable, "-c", BY_HAND, str(config), str(root / "hand"), *settings]
    used = {"stages by hand, one process": _timed(by_hand)}
    for jobs in (1, 2):
        used[f"mofgap run -j {jobs}"] = _timed(_run(config, root / f"jobs{jobs}", settings, jobs))
    used["mofgap run -j 2, all done"] = _timed(_run(config, root / "jobs2", settings, 2))
    base = used["stages by hand, one process"]
    header = ["", "s", "over by hand", "CPU s", "over by hand"]
    print_table(header, [[name, s, s - base[0], cpu, cpu - base[1]] for name, (s, cpu) in used.items()])
    costs = [[name, cost] for name, cost in _costs(root / "jobs1").items()]
    print_table(["cost of the stages, -j 1", "s"], costs)
    same = {name: sha256(root / name / "predictions.parquet") for name in ("hand", "jobs1", "jobs2")}
    print(f"predictions.parquet bit for bit the same: {len(set(same.values())) == 1}")


def _run(config: Path, run: Path, settings: Sequence[str], jobs: int) -> list[str]:
    changes = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "mofgap", "run", str(config), "-o", str(run), "-j", str(jobs), *changes]


def _timed(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of a command by the clock, and of CPU time of all its processes (on Linux)."""
    if sys.platform == "linux":  # the server that forks outlives the run by a moment: it becomes our child
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _costs(run: Path) -> dict[str, float]:
    """Seconds of the stages of each rule."""
    found: dict[str, float] = {}
    for name, stage in json.loads((run / "manifest.json").read_text())["stages"].items():
        rule = name.partition("/")[0]
        found[rule] = found.get(rule, 0.0) + stage["seconds"]
    return found


if __name__ == "__main__":
    main()
