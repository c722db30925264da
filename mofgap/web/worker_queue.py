"""One pool of worker processes for all visitors, who take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from typing import TypeVar

from mofgap.screening.pool import process_pool
from mofgap.web.work import begin

R = TypeVar("R")


class WorkerQueue:
    """Runs functions in worker processes, first come, first served.

    A screening has at most as many structures in the queue as there are workers, and asks for the next when
    one is done. So a small one waits for few structures of each other one, however many these have.

    Args:
        workers: Number of processes.
        pool_of: Makes a pool of so many workers.
    """

    def __init__(
        self, workers: int, pool_of: Callable[[int], Executor] = lambda n: process_pool(n, begin)
    ) -> None:
        self.workers = workers
        self._pool_of = pool_of
        self._pool = pool_of(workers)
        # One more than there are workers, so that none waits for this process to hand it something.
        self._turns = asyncio.Semaphore(workers + 1)
        self._alone = asyncio.Lock()

    async def run(self, function: Callable[..., R], *arguments: object) -> R:
        """The result of a function. If a process dies, its function is tried again alone.

        Raises:
            concurrent.futures.BrokenExecutor: If the process died again, usually because memory ran out.
        """
        loop = asyncio.get_running_loop()
        async with self._turns:
            pool = self._pool
            try:
                return await loop.run_in_executor(pool, function, *arguments)
            except BrokenExecutor:
                if self._pool is pool:
                    self._pool = self._pool_of(self.workers)
        async with self._alone:
            pool = self._pool_of(1)
            try:
                return await loop.run_in_executor(pool, function, *arguments)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the processes, once each has finished what it has in hand."""
        self._pool.shutdown(wait=True, cancel_futures=True)
