"""Loops compiled to machine code by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Machine code of a function, cached on disk if a cache folder can be written.

    Sums may be taken in another order than is written.
    """
    compile_kept, compile_anew = (
        njit(cache=cache, fastmath=True, nogil=True, error_model="numpy") for cache in (True, False)
    )
    try:
        return cast(F, compile_kept(function))
    except RuntimeError:  # neither the package's folder nor the home folder can be written
        return cast(F, compile_anew(function))
