"""A map over a stream, in this process or in worker processes: order kept, memory bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items under way for each worker: enough that none waits for another's large structure.
_AHEAD = 8

_function: Callable[[Any], Any]


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], workers: int, lost: Callable[[T], R] | None = None
) -> Iterator[R]:
    """Apply a function to each item, results in the order of the items.

    Args:
        function: Sent to each worker process once, so it may carry a model.
        items: Read only a few items ahead of the results.
        workers: Number of processes; 1 computes in this one.
        lost: The result of an item that ends its process. Where a worker dies, each item under way is
            computed again in a process alone, which shows the item that is to blame.

    Raises:
        RuntimeError: If no worker process can start.
        concurrent.futures.process.BrokenProcessPool: If a worker process died, usually because memory ran
            out, and ``lost`` is None or the process had no item.
    """
    if workers == 1:
        yield from map(function, items)
        return
    _check_start()
    rest, pending = iter(items), deque[tuple[T, Future[R]]]()
    while True:
        try:
            yield from _in_workers(function, rest, workers, pending)
            return
        except BrokenProcessPool:
            if lost is None:
                raise
        with IsolatedProcess(function, lost) as isolated:
            while pending:
                item, future = pending.popleft()
                yield isolated(item) if isinstance(future.exception(), BrokenProcessPool) else future.result()


class IsolatedProcess(Generic[T, R]):
    """Apply a function in a separate process, so that an item that ends its process ends no other.

    Args:
        function: Sent to the process once.
        lost: The result of an item that ends the process.
    """

    def __init__(self, function: Callable[[T], R], lost: Callable[[T], R]) -> None:
        self.function = function
        self.lost = lost
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, item: T) -> R:
        """The result of an item.

        Raises:
            concurrent.futures.process.BrokenProcessPool: If the process dies before it gets an item.
        """
        if self._pool is None:
            self._pool = _pool(self.function, 1)
            self._pool.submit(int).result()
        try:
            result: R = _submit(self._pool, item).result()
        except BrokenProcessPool:
            self.close()
            return self.lost(item)
        return result

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _in_workers(
    function: Callable[[T], R], items: Iterator[T], workers: int, pending: deque[tuple[T, Future[R]]]
) -> Iterator[R]:
    """Map in worker processes. After an error, ``pending`` holds the items without a result."""
    pool = _pool(function, workers)
    try:
        for item in items:
            pending.append((item, _submit(pool, item)))
            if len(pending) >= _AHEAD * workers:
                yield pending[0][1].result()
                pending.popleft()
        while pending:
            yield pending[0][1].result()
            pending.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(function: Callable[[T], R], workers: int) -> ProcessPoolExecutor:
    return process_pool(workers, _set_function, function)


def _check_start() -> None:
    """Start a process without a function: sending a large one would block if the process dies first."""
    try:
        with process_pool(1, int) as pool:
            pool.submit(int).result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "no worker process can start; the reason stands above. Each imports the script that starts it, "
            'so the script needs `if __name__ == "__main__":` around its calls. workers=1 needs none'
        ) from error


def _submit(pool: ProcessPoolExecutor, item: Any) -> Future[Any]:
    """Submit an item. If a process has died already, the future holds that error."""
    try:
        return pool.submit(_call, item)
    except BrokenProcessPool as error:
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def process_pool(workers: int, begin: Callable[..., object], *arguments: Any) -> ProcessPoolExecutor:
    """Worker processes that leave Ctrl-C to this process, and end with it.

    Args:
        workers: Number of processes.
        begin: Called in each process before its first work.
        arguments: What ``begin`` gets.
    """
    # Forking a process that has started threads, as torch does, can deadlock.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start, initargs=(begin, *arguments))


def _start(begin: Callable[..., object], *arguments: Any) -> None:
    """Set up a worker process."""
    begin(*arguments)
    # Ctrl-C reaches every process of the terminal; the main one alone decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent has ended. Otherwise it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _set_function(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function


def _call(item: Any) -> Any:
    return _function(item)
