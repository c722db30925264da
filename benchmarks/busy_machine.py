"""Time of a pass of a training alone, and beside other programs that keep a core busy each.

Threads that spin, torch's default, are compared with threads that sleep, as mofgap sets them, and with a
single thread. Each has a process of its own, since OpenMP reads how to wait when torch is loaded. Ratios
alone mean something where others work too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mofgap.threads import WAITING, usable_cores, wait_passively

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


def pass_seconds(limit: int, repeats: int, counts: Sequence[int]) -> list[float]:
    """The shortest pass over some structures in this process, wall-clock seconds, by number of neighbours."""
    wait_passively()  # as mofgap does; it leaves alone what was set
    from benchmarks.training import Steps

    steps = Steps(None, "gap_ev", limit)
    steps.pass_ms()  # which loads what is loaded late
    found = []
    for n in counts:
        with neighbours(n):
            times = []
            for _ in range(repeats):
                begun = time.monotonic()
                steps.pass_ms()
                times.append(time.monotonic() - begun)
        found.append(min(times))
    return found


def in_its_own_process(environment: Mapping[str, str], arguments: Sequence[str]) -> list[float]:
    """`pass_seconds` with other variables of the environment."""
    own = {name: value for name, value in os.environ.items() if name not in (*WAITING, "OMP_NUM_THREADS")}
    command = [sys.executable, "-m", "benchmarks.busy_machine", "--alone", *arguments]
    done = subprocess.run(command, env=own | dict(environment), check=True, stdout=subprocess.PIPE, text=True)
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times


def main() -> None:
    """Print the time of a pass, by the way threads wait and by the number of busy neighbours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=60, help="training structures")
    parser.add_argument("--repeats", type=int, default=2, help="passes each; the shortest counts")
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--alone", action="store_true", help="print the times of this process alone, as JSON")
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(pass_seconds(asked.limit, asked.repeats, asked.neighbours)))
        return
    found = {way: in_its_own_process(environment, sys.argv[1:]) for way, environment in WAYS.items()}
    os.environ.pop("OMP_NUM_THREADS", None)
    print(f"{usable_cores()} cores, {asked.limit} structures; seconds a pass (over the first column)")
    from benchmarks.measure import print_table

    cells = [(way, *(f"{s:.2f} ({s / times[0]:.1f}x)" for s in times)) for way, times in found.items()]
    print_table(("", *(f"{n} busy" for n in asked.neighbours)), cells)


if __name__ == "__main__":
    main()
