"""The adapted embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.balora.layer import AdaptedLayer
from mofgap.balora.rows import InputRows


class AdaptedEmbedding(AdaptedLayer):
    """An adapted ``nn.Embedding``: it takes columns of A (r, n_embeddings), and B (width, r) multiplies them.

    Inputs are integers (batch, ...). Inside, they have a last dimension of one.
    """

    peft_names = ("lora_embedding_A", "lora_embedding_B")

    def __init__(self, base: nn.Embedding, **kwargs: Any) -> None:
        super().__init__(base, **kwargs)
        if base.padding_idx is not None:  # its vector stays as it is, as in torch and PEFT
            with torch.no_grad():
                self.lora_A[:, base.padding_idx] = 0.0

    @property
    def widths(self) -> tuple[int, int]:
        """The shape of W0."""
        return tuple(self.base.weight.shape)

    def last(self, x: Tensor) -> Tensor:
        """(..., 1) int64."""
        return x.long()[..., None]

    def square(self, x: Tensor) -> Tensor:
        """The indices themselves: the square of a one-hot vector is that vector."""
        return x

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """(..., r): columns of a matrix of A's shape; zeros for padding, whatever its column holds."""
        index, padding = x[..., 0], self.base.padding_idx
        h = F.embedding(index, weight.T, padding)
        return h if padding is None else h * (index != padding)[..., None]

    def with_signs(self, x: Tensor, signs: Tensor, weight: Tensor) -> Tensor:
        """(..., r): columns of the matrix, with the sign of each."""
        own = torch.take_along_dim(signs.expand(*x.shape[:-1], signs.shape[-1]), x, dim=-1)
        return own * self.project(x, weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """(..., width): rows of a weight (n_embeddings, width)."""
        return F.embedding(x, weight)

    def vectors(self, x: Tensor) -> Tensor:
        """(..., n_embeddings) one-hot vectors."""
        return F.one_hot(x.long(), self.base.num_embeddings)

    def outer(self, x: Tensor, g: Tensor, rows: InputRows) -> Tensor:
        """(n_inputs, r, n_embeddings): sums of g over the positions of each index."""
        number = self.base.num_embeddings
        if self.base.padding_idx is not None:
            g = g * (x != self.base.padding_idx)[..., None]
        counts = torch.tensor(rows.counts(x[..., None]), device=x.device)
        owner = torch.repeat_interleave(torch.arange(rows.n_inputs, device=x.device), counts)
        sums = g.new_zeros(rows.n_inputs * number, g.shape[-1])
        sums.index_add_(0, owner * number + x.flatten(), g.flatten(0, -2))
        return sums.view(rows.n_inputs, number, -1).mT.contiguous()

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """(n_embeddings, width) the mean update s (B A)ᵀ; zeros for padding, whatever its column holds."""
        delta = super().delta_weight().T.contiguous()
        if self.base.padding_idx is not None:
            delta[self.base.padding_idx] = 0.0
        return delta
