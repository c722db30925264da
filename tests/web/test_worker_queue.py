from __future__ import annotations

import asyncio
import os
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mofgap.screening.pool import process_pool
from mofgap.web.worker_queue import WorkerQueue


def nothing() -> None:
    """What a worker begins with."""


def processes(workers: int) -> Executor:
    return process_pool(workers, nothing)


def die(*_: object) -> None:
    os._exit(1)


def die_once(path: Path) -> str:
    if path.exists():
        return "done"
    path.touch()
    os._exit(1)


def test_screenings_take_turns() -> None:
    order: list[str] = []

    async def visitor(queue: WorkerQueue, name: str, n: int) -> None:
        for _ in range(n):
            await queue.run(order.append, name)

    async def all_visitors() -> None:
        queue = WorkerQueue(1, ThreadPoolExecutor)
        large = asyncio.create_task(visitor(queue, "large", 50))
        await asyncio.sleep(0)
        await asyncio.gather(*(visitor(queue, f"small {i}", 2) for i in range(5)), large)
        queue.close()

    asyncio.run(all_visitors())
    last_small = max(place for place, name in enumerate(order) if name != "large")
    assert len(order) == 60 and last_small < 18


class Queue(Executor):
    """A pool of which nothing is done before it is told, and which counts what waits in it."""

    def __init__(self) -> None:
        self.waiting: list[Future[None]] = []
        self.most = 0

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        self.waiting.append(Future())
        self.most = max(self.most, len(self.waiting))
        return self.waiting[-1]


def test_a_large_screening_leaves_no_long_queue_before_a_small_one() -> None:
    """Nor are more structures lost with a process than there are workers, and one."""
    executor = Queue()

    async def run() -> None:
        queue = WorkerQueue(2, lambda _: executor)
        visitors = [asyncio.create_task(queue.run(len, "")) for _ in range(50)]
        while not all(visitor.done() for visitor in visitors):
            await asyncio.sleep(0)
            if executor.waiting:
                executor.waiting.pop(0).set_result(None)

    asyncio.run(run())
    assert executor.most == 3


@pytest.mark.usefixtures("functions_of_tests")
def test_a_process_that_dies_costs_no_other(tmp_path: Path) -> None:
    async def run() -> None:
        queue = WorkerQueue(1, processes)
        with pytest.raises(BrokenExecutor):
            await queue.run(die)
        assert await queue.run(die_once, tmp_path / "mark") == "done"
        assert await queue.run(len, "four") == 4
        queue.close()

    asyncio.run(run())
