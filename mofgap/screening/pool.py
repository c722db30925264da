"""A map over a stream, here or in worker processes: order kept, memory bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# Items under way for each worker: enough that none waits for another's large structure.
_AHEAD = 8

_function: Callable[[Any], Any]


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Apply a function to each item, results in the order of the items.

    Args:
        function: Sent to each worker process once, so it may carry a model.
        items: Read only a few items ahead of the results.
        workers: Number of processes; 1 computes in this one.

    Raises:
        concurrent.futures.process.BrokenProcessPool: A worker process died, usually for want of memory.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # Forking a process that has started threads, as torch does, can deadlock.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(function,))
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(_call, item))
            if len(pending) >= _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(function: Callable[[Any], Any]) -> None:
    """Set up a worker process."""
    global _function
    _function = function
    # Ctrl-C reaches every process of the terminal; the main one alone decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(item: Any) -> Any:
    return _function(item)
