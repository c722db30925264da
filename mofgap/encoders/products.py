"""Products of float32 matrices on the CPU while a network is trained, by the faster library of torch.

By default torch uses Intel's MKL. On an AMD processor with AVX-512 oneDNN is faster in a training step
(``python -m benchmarks.training``) and slower in a prediction, which keeps MKL
(``python -m benchmarks.error_bar_cost``). torch uses oneDNN if the precision setting allows rounding to
bfloat16. Without matrix units for bfloat16 (AMX) oneDNN does not round. This is tested before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

_SHAPES = (16, 64, 64), (512, 64, 136), (2048, 256, 256)
"""Rows, inner dimension and columns of the tested products; the kernel may depend on the size."""


@contextmanager
def fast_products() -> Iterator[None]:
    """While open, this process multiplies by oneDNN, if its products keep the precision of float32.

    Nothing changes if the user chose a precision, or if there is a CUDA device, which would round too.
    """
    try:
        chosen = torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # the user chose a precision for oneDNN alone
        chosen = True
    if chosen or torch.cuda.is_available():
        yield
        return
    torch.set_float32_matmul_precision("medium")
    try:
        if not all(_is_exact(*shape) for shape in _SHAPES):
            torch.set_float32_matmul_precision("highest")
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@cache
def _is_exact(rows: int, inner: int, columns: int) -> bool:
    """Whether a product keeps digits that float32 has and bfloat16 has not."""
    fine = 1 + 2.0**-12
    found = torch.full((rows, inner), fine) @ torch.eye(inner, columns)
    return bool((found[:, :inner] == fine).all())
