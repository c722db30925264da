"""The processes of a training on several nodes or devices of a SLURM cluster.

On one machine Lightning starts them itself. In a job of SLURM srun starts them, and Lightning reads from the
environment which of them it is in. One process more than these keeps account, and does nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mofgap.study.engine.cost import Cost, measured
from mofgap.study.engine.folder import RunError, RunFolder, read_state, write_state

JOB = "SLURM_JOB_ID"
RANK = "SLURM_PROCID"
_COUNTED = {"cpu_seconds", "peak_memory_mb", "host"}


def needs_launch(nodes: int, processes: int) -> bool:
    """Whether srun has to start the processes of a stage."""
    return nodes * processes > 1 and JOB in os.environ


def stage_command(stage: str, folder: RunFolder) -> list[str]:
    """The command line that does one stage of a run."""
    place = ("--run", str(folder.path), "--seen-from", str(Path.cwd()))
    return [sys.executable, "-m", "mofgap", "stage", stage, *place]


def launch(
    stage: str, folder: RunFolder, nodes: int, processes: int, threads: int, keep: Callable[[Cost], None]
) -> Cost:
    """Do a stage in processes that srun starts on each of some nodes; returns what it cost, see `measured`.

    Raises:
        RunError: If a process of the stage failed. Then srun ended the others.
    """
    n = nodes * processes
    command = [
        *("srun", f"--nodes={nodes}", f"--ntasks={n}", f"--ntasks-per-node={processes}"),
        *(f"--cpus-per-task={threads}", "--kill-on-bad-exit=1", "--wait=0"),
        *stage_command(stage, folder),
        "--rank",
    ]

    def work() -> None:
        code = subprocess.run(command, check=False).returncode
        if code:
            raise RunError(f"{stage}: srun ended with exit code {code}")

    for rank in range(n):
        folder.rank(stage, rank).unlink(missing_ok=True)  # of an earlier start
    cost = measured(work, threads, keep)
    found = (read_state(folder.rank(stage, rank)) for rank in range(n))
    costs = [each for each in found if each.keys() >= _COUNTED]
    # A file that was damaged since costs no training: what it would say is left out.
    cost["cpu_seconds"] = round(sum(each["cpu_seconds"] for each in costs), 4)
    cost["peak_memory_mb"] = max((each["peak_memory_mb"] for each in costs), default=cost["peak_memory_mb"])
    return cost | {"hosts": sorted({each["host"] for each in costs}), "processes": n}


def work_in_rank(work: Callable[[], None], stage: str, folder: RunFolder, threads: int) -> None:
    """Do the share of one process, and write its cost for the first process."""

    def to_its_end() -> None:
        try:
            work()
        except SystemExit as end:  # how all but the first process end
            if end.code:
                raise

    write_state(folder.rank(stage, int(os.environ[RANK])), measured(to_its_end, threads))
