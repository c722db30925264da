"""Products of float32 matrices on the CPU: the faster of the two libraries that torch carries.

torch takes Intel's MKL, which leaves half of the vector registers of an AMD processor with AVX-512 idle.
oneDNN fills them, and takes half of the time (``python -m benchmarks.training``). torch asks oneDNN where it
may round to bfloat16. Without matrix units for bfloat16 (AMX) oneDNN does not round, and this is tried
before it is used.
"""

from __future__ import annotations

from functools import cache

import torch

_SHAPES = (16, 64, 64), (512, 64, 136), (2048, 256, 256)
"""Rows, sum and columns of the products that are tried: a kernel may be chosen by the size."""


@cache
def use_fast_products() -> bool:
    """Let this process multiply by oneDNN, where its products are float32.

    Nothing changes where the user chose a precision himself, or where torch sees a CUDA device, which would
    round too.

    Returns:
        Whether oneDNN is used, on a processor that it supports.
    """
    try:
        chosen = torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # he chose one for oneDNN alone
        chosen = True
    if chosen or torch.cuda.is_available():
        return False
    torch.set_float32_matmul_precision("medium")
    if exact := all(_is_exact(*shape) for shape in _SHAPES):
        return exact
    torch.set_float32_matmul_precision("highest")
    return exact


def _is_exact(rows: int, inner: int, columns: int) -> bool:
    """Whether a product keeps digits of float32 that bfloat16 has not."""
    fine = 1 + 2.0**-12
    found = torch.full((rows, inner), fine) @ torch.eye(inner, columns)
    return bool((found[:, :inner] == fine).all())
