"""One thread at a time: a pass leaves marks on adapted layers, which other threads would see."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import Any, TypeVar

import torch

NETWORK_LOCK = RLock()
"""Held while adapted networks compute."""

Method = TypeVar("Method", bound=Callable[..., Any])


def locked(method: Method) -> Method:
    """A method that one thread at a time runs, except in a compiled graph, where no thread can wait."""

    @wraps(method)
    def alone(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return method(*args, **kwargs)
        with NETWORK_LOCK:
            return method(*args, **kwargs)

    return alone  # type: ignore[return-value]
