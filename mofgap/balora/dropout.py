"""Dropout before the adapters, in training and, as Monte Carlo dropout, in prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mofgap.balora.layer import AdaptedLayer, perturbed
from mofgap.balora.rows import InputRows
from mofgap.balora.sampling import seeded, source_of


@dataclass(frozen=True)
class Dropout:
    """The change of h = A x by dropout of a layer's input: each element is zero with probability ``rate``.

    Attributes:
        rate: In [0, 1).
        generators: Sources of the masks, which may be on the CPU: None for torch's global generator, one for
            the batch, or one per input.
        rows: The input that each row belongs to; needed with one generator per input.
    """

    rate: float
    generators: torch.Generator | Sequence[torch.Generator] | None = None
    rows: InputRows | None = None

    def __call__(self, x: Tensor, layer: AdaptedLayer) -> Tensor:
        """(..., r): A (m∘x / (1 - rate)) - A x."""
        if not x.is_floating_point():  # an embedding has indices as input, and no dropout in PEFT either
            return layer.lora_A.new_zeros(1)
        kept = (self._uniform(x) >= self.rate).to(x.dtype)
        return layer.project(x * (kept / (1 - self.rate) - 1), layer.lora_A)

    def _uniform(self, x: Tensor) -> Tensor:
        """Numbers in [0, 1), of the shape of x."""
        source = self.generators
        if source is None or isinstance(source, torch.Generator):
            return torch.rand(x.shape, **source_of(source, x)).to(x.device)
        assert self.rows is not None
        return self.rows.draw(torch.rand, x, source)


@contextmanager
def dropout(
    layers: Mapping[str, AdaptedLayer],
    rate: float,
    generator: torch.Generator | None = None,
    *,
    row_to_input: Tensor | None = None,
    input_seeds: Sequence[int] | None = None,
) -> Iterator[None]:
    """While open, dropout is applied to the input of the adapters; every call draws a new mask.

    In training this is LoRA with dropout, as in Hugging Face PEFT. In prediction each pass is a sample (Monte
    Carlo dropout: Gal and Ghahramani, arXiv 1506.02142).

    Args:
        layers: The adapted layers.
        rate: Share of each layer's input that is zero, in [0, 1).
        generator: Source of the masks; torch's global one when None. It may be on the CPU.
        row_to_input: (n_rows,) int64 and sorted, the input each row belongs to; see `sampling`.
        input_seeds: One integer per input. The masks of an input then come from its seed alone, and do
            not depend on the other inputs of the batch.

    Raises:
        ValueError: If ``rate`` is not in [0, 1), or ``input_seeds`` are given and ``row_to_input`` is not
            sorted.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1, not {rate}")
    masks = Dropout(rate, generator)
    if input_seeds is not None:
        masks = Dropout(rate, seeded(input_seeds), InputRows(len(input_seeds), row_to_input))
    with perturbed(layers, [masks] * len(layers)):
        yield
