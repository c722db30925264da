"""Count sketches: short vectors whose inner products are, on average, those of long ones."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def sketch(values: Tensor, n_dims: int) -> Tensor:
    """Count sketch of vectors: element i is added to element i modulo ``n_dims`` of the sketch.

    If the elements have random signs, inner products of sketches are those of the vectors on average. Squared
    distances have a relative error of about sqrt(2 / n_dims). Charikar, Chen and Farach-Colton, Theor.
    Comput. Sci. 312, 3 (2004).

    Args:
        values: (n, m), multiplied by the random signs.
        n_dims: Length of a sketch.

    Returns:
        (n, n_dims).
    """
    if rest := values.shape[1] % n_dims:
        values = F.pad(values, (0, n_dims - rest))
    return values.view(len(values), values.shape[1] // n_dims, n_dims).sum(1)


@lru_cache
def signs(shape: torch.Size, stream: int) -> Tensor:
    """Random signs, the same on every machine and in every version, since models store sketches.

    They are upper bits of SplitMix64: Steele, Lea and Flood, OOPSLA 2014, figure 16.

    Args:
        shape: Shape of the tensor.
        stream: Number of the tensor; tensors of different numbers are independent.

    Returns:
        float32 on the CPU, of -1 and 1.
    """
    x = np.arange(1, shape.numel() + 1, dtype=np.uint64) + np.uint64(stream << 32)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = (x ^ (x >> np.uint64(31))) >> np.uint64(63)
    return torch.from_numpy(1.0 - 2.0 * bits.astype(np.float32)).view(shape)
