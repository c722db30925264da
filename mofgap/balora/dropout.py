"""Dropout before the adapters, in training and, as Monte Carlo dropout, in prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mofgap.balora.layer import AdaptedLinear, perturbed


@dataclass(frozen=True)
class Dropout:
    """What dropout of a layer's input changes in h = A x: each element is zero with probability ``rate``.

    Attributes:
        rate: In [0, 1).
        generator: Source of the masks; torch's global one when None. It may live on the CPU.
    """

    rate: float
    generator: torch.Generator | None = None

    def __call__(self, x: Tensor, A: Tensor) -> Tensor:
        """(..., r): A (m∘x / (1 - rate)) - A x."""
        device = x.device if self.generator is None else self.generator.device
        drawn = torch.rand(x.shape, generator=self.generator, device=device).to(x.device)
        kept = (drawn >= self.rate).to(x.dtype)
        return F.linear(x * (kept / (1 - self.rate) - 1), A)


@contextmanager
def dropout(
    layers: Mapping[str, AdaptedLinear], rate: float, generator: torch.Generator | None = None
) -> Iterator[None]:
    """While open, the adapters see their input through dropout; every call draws a mask of its own.

    In training this is LoRA with dropout, as in Hugging Face PEFT. Left open in prediction, each pass is a
    sample: Gal and Ghahramani, arXiv 1506.02142.

    Raises:
        ValueError: The rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1, not {rate}")
    with perturbed(layers, [Dropout(rate, generator)] * len(layers)):
        yield
