"""Rows of a batch: the input that each of them belongs to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor


class InputRows:
    """Maps the rows of any layer's input to the inputs they come from.

    The leading dimension of a layer's input may count inputs (a batch-first tensor) or rows (the atoms of all
    structures, one after the other). Both may occur in one model.

    Args:
        n_inputs: Number of inputs in the batch.
        row_to_input: (n_rows,) int64 and sorted, the input each row belongs to; ``None`` if every tensor is
            batch-first.

    Raises:
        ValueError: If ``row_to_input`` is not sorted: the rows of an input must be consecutive.
    """

    def __init__(self, n_inputs: int, row_to_input: Tensor | None = None) -> None:
        if row_to_input is not None and bool((row_to_input.diff() < 0).any()):
            raise ValueError("row_to_input must be sorted: the rows of an input must be consecutive")
        self.n_inputs = n_inputs
        self.row_to_input = row_to_input

    def has_own_rows(self, x: Tensor) -> bool:
        """Whether the leading dimension of ``x`` counts rows (true) or inputs (false).

        Raises:
            ValueError: If the leading dimension of ``x`` is neither the number of rows nor that of inputs,
                and there are several inputs: of one input everything is its own.
        """
        if self.row_to_input is not None and x.shape[0] == self.row_to_input.shape[0]:
            return True
        if self.n_inputs in (1, x.shape[0]):
            return False
        rows = "no row_to_input" if self.row_to_input is None else f"{len(self.row_to_input)} rows"
        raise ValueError(
            f"a layer got a tensor of shape {tuple(x.shape)}: its leading dimension is neither the number "
            f"of inputs ({self.n_inputs}) nor that of rows ({rows}); tensors must be batch-first"
        )

    def expand(self, values: Tensor, x: Tensor) -> Tensor:
        """Give every row of ``x`` its input's values.

        Args:
            values: (n_inputs, k).
            x: (n_rows, ..., d) or (n_inputs, ..., d).

        Returns:
            (n_rows or n_inputs, 1, ..., k), which broadcasts against ``x`` (for one input, whatever x is).
        """
        if self.has_own_rows(x):
            assert self.row_to_input is not None
            values = values.index_select(0, self.row_to_input)
        return values.view(len(values), *[1] * (x.ndim - 2), values.shape[-1])

    def draw(
        self, make: Callable[..., Tensor], like: Tensor, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Random numbers of the shape and type of a tensor; each input has a separate generator.

        Args:
            make: ``torch.rand`` or ``torch.randn``.
            like: (n_rows, ..., d) or (n_inputs, ..., d).
            generators: One per input; they may be on the CPU.
        """
        parts = [
            make((count, like.shape[-1]), generator=own, device=own.device, dtype=like.dtype)
            for count, own in zip(self.counts(like), generators, strict=True)
        ]
        return torch.cat(parts).view(like.shape).to(like.device)

    def counts(self, x: Tensor) -> list[int]:
        """Number of vectors of each input, in ``x`` flattened to (vectors, d)."""
        if not self.has_own_rows(x):
            return [x.shape[:-1].numel() // max(1, self.n_inputs)] * self.n_inputs
        return [count * x.shape[1:-1].numel() for count in self._rows_of_input]

    def outer(self, x: Tensor, g: Tensor) -> Tensor:
        """(n_inputs, r, d): sum of g xᵀ over the rows of each input.

        Args:
            x: (n_rows or n_inputs, ..., d).
            g: (n_rows or n_inputs, ..., r), with as many vectors.
        """
        if self.n_inputs == 1:
            return (g.flatten(0, -2).mT @ x.flatten(0, -2))[None]
        counts = self.counts(x)
        g, x = g.flatten(0, -2), x.flatten(0, -2)
        if len(set(counts)) <= 1:
            return self.by_input(g).mT @ self.by_input(x)
        return torch.stack(
            [a.mT @ b for a, b in zip(torch.split(g, counts), torch.split(x, counts), strict=True)]
        )

    def by_input(self, vectors: Tensor) -> Tensor:
        """(n_inputs, vectors of an input, d), if all inputs have the same number of vectors."""
        return vectors.view(self.n_inputs, len(vectors) // max(1, self.n_inputs), vectors.shape[-1])

    @cached_property
    def _rows_of_input(self) -> list[int]:
        assert self.row_to_input is not None
        return torch.bincount(self.row_to_input, minlength=self.n_inputs).tolist()
