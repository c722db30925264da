"""Dropout before the adapters, in training and, as Monte Carlo dropout, in prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from mofgap.balora.layer import AdaptedLayer, perturbed
from mofgap.balora.rows import InputRows
from mofgap.balora.sampling import seeded


@dataclass(frozen=True)
class Dropout:
    """What dropout of a layer's input changes in h = A x: each element is zero with probability ``rate``.

    Attributes:
        rate: In [0, 1).
        generators: Sources of the masks, which may live on the CPU: None for torch's own, one for the batch,
            or one per input.
        rows: Which row belongs to which input, where each has its own.
    """

    rate: float
    generators: torch.Generator | Sequence[torch.Generator] | None = None
    rows: InputRows | None = None

    def __call__(self, x: Tensor, layer: AdaptedLayer) -> Tensor:
        """(..., r): A (m∘x / (1 - rate)) - A x."""
        if not x.is_floating_point():  # an embedding looks up, and has none in PEFT either
            return layer.lora_A.new_zeros(1)
        kept = (self._uniform(x) >= self.rate).to(x.dtype)
        return layer.project(x * (kept / (1 - self.rate) - 1), layer.lora_A)

    def _uniform(self, x: Tensor) -> Tensor:
        """Numbers in [0, 1), of the shape of x."""
        source = self.generators
        if source is None or isinstance(source, torch.Generator):
            device = x.device if source is None else source.device
            return torch.rand(x.shape, generator=source, device=device).to(x.device)
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
    """While open, the adapters see their input through dropout; every call draws a mask of its own.

    In training this is LoRA with dropout, as in Hugging Face PEFT. Left open in prediction, each pass is a
    sample: Gal and Ghahramani, arXiv 1506.02142.

    Args:
        layers: The adapted layers.
        rate: Share of each layer's input that is zero, in [0, 1).
        generator: Source of the masks; torch's global one when None. It may live on the CPU.
        row_to_input: (n_rows,) int64 and sorted, the input each row belongs to; see `sampling`.
        input_seeds: One integer per input, whose masks then come from its own seed in place of the
            generator, and do not depend on what else is in the batch.

    Raises:
        ValueError: The ``rate`` is not in [0, 1), or ``row_to_input`` is not sorted though ``input_seeds``
            are given.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1, not {rate}")
    masks = Dropout(rate, generator)
    if input_seeds is not None:
        masks = Dropout(rate, seeded(input_seeds), InputRows(len(input_seeds), row_to_input))
    with perturbed(layers, [masks] * len(layers)):
        yield
