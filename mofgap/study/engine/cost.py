"""What a job costs: time, memory, and where."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def measured(work: Callable[[], None], threads: int) -> dict[str, Any]:
    """Do some work on so many threads; returns what it cost."""
    os.environ |= dict.fromkeys(_THREADS, str(threads))  # read when torch is imported
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    begun, begun_cpu = time.monotonic(), _cpu_seconds()
    work()
    peak_kb = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cost = {
        "seconds": round(time.monotonic() - begun, 4),
        "cpu_seconds": round(_cpu_seconds() - begun_cpu, 4),
        "peak_memory_mb": round(peak_kb / 2**10, 1),
        "threads": threads,
        "host": platform.node(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        cost["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if job := os.environ.get("SLURM_JOB_ID"):
        cost["slurm_job"] = job
    return cost


def _cpu_seconds() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
