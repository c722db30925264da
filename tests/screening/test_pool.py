from __future__ import annotations

import itertools
import operator
import os
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path

import pytest

import mofgap
from mofgap.screening.pool import ordered_map


@pytest.mark.parametrize("workers", [1, 2])
def test_order_is_kept_and_few_items_are_read_ahead(workers: int) -> None:
    taken = itertools.count()
    endless = (next(taken) for _ in itertools.repeat(None))
    with closing(ordered_map(operator.neg, endless, workers)) as results:
        assert list(itertools.islice(results, 40)) == [-i for i in range(40)]
    assert next(taken) <= 40 + 8 * workers


def test_all_results_come_out_of_a_short_stream() -> None:
    assert list(ordered_map(operator.neg, iter([3, 1, 2]), 2)) == [-3, -1, -2]
    assert list(ordered_map(operator.neg, iter([]), 2)) == []


def test_dead_worker_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(BrokenProcessPool):
        list(ordered_map(os._exit, iter([1]), 2))


def _negative_or_killed(item: int) -> int:
    if item in (5, 6, 30):
        os.kill(os.getpid(), signal.SIGKILL)
    return -item


@pytest.mark.usefixtures("functions_of_tests")
def test_an_item_that_kills_its_worker_is_lost_and_no_other() -> None:
    found = list(ordered_map(_negative_or_killed, range(40), 2, lost=lambda item: item))
    assert found == [item if item in (5, 6, 30) else -item for item in range(40)]


def test_a_process_that_dies_without_an_item_is_an_error() -> None:
    with pytest.raises(BrokenProcessPool):
        list(ordered_map(_Unloadable(), iter([1]), 2, lost=operator.neg))


class _Unloadable:
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)

    def __call__(self, item: int) -> int:
        return item


def test_a_script_without_main_guard_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    # A function larger than the buffer of a pipe, as a model is.
    script.write_text(
        "import functools, operator\n"
        "from mofgap.screening.pool import ordered_map\n"
        "print(list(ordered_map(functools.partial(operator.contains, bytes(1_000_000)), [0], 2)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=environment, timeout=60
    )
    assert ended.returncode == 1
    assert 'if __name__ == "__main__":' in ended.stderr.splitlines()[-1]


def test_workers_end_with_a_killed_parent() -> None:
    program = (
        "import itertools, multiprocessing, operator, signal\n"
        "from mofgap.screening.pool import ordered_map\n"
        "for _ in ordered_map(operator.neg, itertools.count(), 2):\n"
        "    print(*[p.pid for p in multiprocessing.active_children()], flush=True)\n"
        "    signal.pause()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    # The pipe reads to its end only when the workers, who share it, are gone too.
    parent.communicate(timeout=30)
