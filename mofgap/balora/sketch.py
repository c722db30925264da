"""Short vectors in place of gradients of every weight, with the same inner products on average."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def sketch(values: Tensor, n_dims: int) -> Tensor:
    """Fold vectors: number i is added to place i modulo ``n_dims``.

    With random signs in front of the numbers, inner products of folded vectors are those of the whole ones
    on average, and distances are right to about sqrt(2 / n_dims) of their square. Charikar, Chen and
    Farach-Colton, Theor. Comput. Sci. 312, 3 (2004).

    Args:
        values: (n, m), signs and all.
        n_dims: Length of a sketch.

    Returns:
        (n, n_dims).
    """
    if rest := values.shape[1] % n_dims:
        values = F.pad(values, (0, n_dims - rest))
    return values.view(len(values), values.shape[1] // n_dims, n_dims).sum(1)


@lru_cache
def signs(shape: torch.Size, stream: int) -> Tensor:
    """Random signs, the same on every machine and in every version, since sketches are kept in models.

    From the upper bits of SplitMix64: Steele, Lea and Flood, OOPSLA 2014, figure 16.

    Args:
        shape: Shape of the tensor.
        stream: Which of many independent tensors.

    Returns:
        float32 on the CPU, of -1 and 1.
    """
    x = np.arange(1, shape.numel() + 1, dtype=np.uint64) + np.uint64(stream << 32)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = (x ^ (x >> np.uint64(31))) >> np.uint64(63)
    return torch.from_numpy(1.0 - 2.0 * bits.astype(np.float32)).view(shape)
