"""What a job costs: time, memory, and where; over all of its starts, those that were killed included."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from mofgap.study.peak_memory import peak_memory_mb

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

KEPT_EVERY_SECONDS = 5.0
"""So much of the cost of a job that is killed may be lost."""

Cost = dict[str, Any]


def measured(work: Callable[[], None], threads: int, keep: Callable[[Cost], None] = lambda _: None) -> Cost:
    """Do some work with a number of threads, and measure its cost.

    Args:
        work: To be done.
        threads: For arithmetic.
        keep: Called every few seconds with the cost so far, and at the end, also after an error.

    Returns:
        What it cost.
    """
    os.environ |= dict.fromkeys(_THREADS, str(threads))  # read when torch is imported
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    begun, begun_cpu = time.monotonic(), _cpu_seconds()
    with _repeated(lambda: keep(_since(begun, begun_cpu, threads))):
        work()
    return _since(begun, begun_cpu, threads)


def total(starts: Sequence[Cost]) -> Cost:
    """The cost of all starts of a job; place and threads are those of the last."""
    sums = {name: round(sum(each[name] for each in starts), 4) for name in ("seconds", "cpu_seconds")}
    peaks = {
        name: max(each.get(name, 0.0) for each in starts)
        for name in ("peak_memory_mb", "peak_gpu_memory_mb")
        if name in starts[-1]
    }
    return starts[-1] | sums | peaks | {"starts": len(starts)}


@contextmanager
def _repeated(action: Callable[[], None]) -> Iterator[None]:
    """Call a function now, every few seconds, and once more at the end."""
    ended = Event()

    def repeat() -> None:
        while not ended.wait(KEPT_EVERY_SECONDS):
            action()

    action()
    thread = Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        action()


def _since(begun: float, begun_cpu: float, threads: int) -> Cost:
    """The cost since two clocks were read."""
    cost: Cost = {
        "seconds": round(time.monotonic() - begun, 4),
        "cpu_seconds": round(_cpu_seconds() - begun_cpu, 4),
        "peak_memory_mb": round(peak_memory_mb(), 1),
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
