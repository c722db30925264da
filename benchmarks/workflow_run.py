"""What a run costs over its stages by hand, what two jobs gain, and what kills do to the result.

Everything is measured in the same run, on the same configuration, each time from an empty run folder::

    python -m benchmarks.workflow_run configs/quickstart.yaml
    python -m benchmarks.workflow_run configs/quickstart.yaml --kills 5 --only kills
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.measure import print_table
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
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="mofgap-benchmark-") as folder:
        root = Path(folder)
        if arguments.only in (None, "overhead"):
            _overhead(arguments.config, root, arguments.set)
        if arguments.only in (None, "kills"):
            _kills(arguments.config, root, arguments.set, arguments.kills, arguments.seed)


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


def _kills(config: Path, root: Path, settings: Sequence[str], n_kills: int, seed: int) -> None:
    """Kill a run at random moments, resume it, and compare its table with that of one left alone."""
    whole = root / "whole"
    seconds, _ = _timed(_run(config, whole, settings, 2))
    draw = random.Random(seed)
    rows = []
    for kill in range(n_kills):
        run = root / f"killed{kill}"
        moment = draw.uniform(0.05, 0.95) * seconds
        process = subprocess.Popen(
            _run(config, run, settings, 2), env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moment)
        # Every other time only the run itself is killed, and what it started has to notice.
        (os.killpg if kill % 2 else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        n_done = len(list(run.glob("stages/**/*.done")))
        resumed, _ = _timed(_run(config, run, settings, 2))
        same = sha256(run / "predictions.parquet") == sha256(whole / "predictions.parquet")
        what = "all processes" if kill % 2 else "mofgap run alone"
        rows.append([f"{moment:.1f} s", what, n_done, resumed, same])
        shutil.rmtree(run)
    print(f"left alone: {seconds:.1f} s")
    print_table(["killed after", "killed", "stages done then", "s to resume", "same predictions"], rows)


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=["overhead", "kills"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
