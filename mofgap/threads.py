"""Threads on a machine that others use too: how many, and how they wait. Imports nothing heavy."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user says how the threads of OpenMP wait."""

BLAS = "OPENBLAS_NUM_THREADS"
"""Variable for the threads of NumPy's and SciPy's linear algebra."""

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def wait_passively() -> None:
    """Let threads of OpenMP sleep while they wait for each other, unless the user set this otherwise.

    By default they spin: on a core that another program wants, a training then takes many times as long
    (``python -m benchmarks.busy_machine``). OpenMP reads this when torch is loaded. NumPy's OpenBLAS cannot
    be set to sleep, so that it gets one thread: its work here takes a few seconds.
    """
    os.environ.setdefault(BLAS, "1")
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"


def use_cores(processes: int = 1) -> None:
    """Give the usable cores to torch, unless the user set ``OMP_NUM_THREADS``.

    Args:
        processes: How many such processes share the cores.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    threads = max(1, usable_cores() // processes)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:  # which has read the variable already
        sys.modules["torch"].set_num_threads(threads)


def usable_cores() -> int:
    """Cores that this process may use: ``OMP_NUM_THREADS``, else by affinity and quota of its cgroup."""
    with suppress(ValueError):
        if (asked := int(os.environ.get("OMP_NUM_THREADS", "").split(",")[0])) > 0:
            return asked
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return int(min(cores, cgroup_cores()))


def cgroup_cores(groups: Path = _GROUPS, mount: Path = _MOUNT) -> float:
    """Whole cores that the quota of this process's cgroups allows, at least 1; infinite without a quota.

    Args:
        groups: Lists the cgroups of the process, of version 1 or 2.
        mount: Where cgroups are mounted.
    """
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:  # version 2
            quotas += (_quota(folder / "cpu.max") for folder in _parents(mount, name))
        elif "cpu" in controllers.split(","):
            for top in (mount / controllers, mount / "cpu"):
                quotas += (
                    _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")
                    for folder in _parents(top, name)
                )
    least = min(quotas)
    return least if math.isinf(least) else max(1, math.floor(least))


def _parents(top: Path, name: str) -> Iterator[Path]:
    """The folder of a cgroup and those above it, each of which may hold a quota."""
    folder = top / name.lstrip("/")
    yield folder
    while folder != top and folder != folder.parent:
        folder = folder.parent
        yield folder


def _quota(*files: Path) -> float:
    """Cores by the numbers in some files, quota and period in microseconds; infinite without them."""
    try:
        words = " ".join(file.read_text(encoding="utf-8") for file in files).split()
        quota, period = float(words[0]), float(words[1])
    except (OSError, ValueError, IndexError):  # "max" is no number
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf
