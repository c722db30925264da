"""Adapted linear layers: torch's own, and the transposed one of Hugging Face transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.balora.layer import AdaptedLayer


class AdaptedLinear(AdaptedLayer):
    """An adapted ``nn.Linear``. Inputs are (..., d_in); the rest is as in `AdaptedLayer`."""

    def __init__(
        self, base: nn.Module, *, rank: int = 8, lora_alpha: float = 16.0, init_scale: float = 1.0
    ) -> None:
        d_in, d_out = self.widths(base)
        super().__init__(base, d_in, d_out, rank=rank, lora_alpha=lora_alpha, init_scale=init_scale)

    @classmethod
    def widths(cls, base: Any) -> tuple[int, int]:
        """d_in and d_out."""
        return base.in_features, base.out_features

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """(..., r): the product of x with a matrix of A's shape."""
        return F.linear(x, weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """(..., d_out): the output for a weight (d_out, d_in)."""
        return F.linear(x, weight, self.base.bias)

    def vectors(self, x: Tensor) -> Tensor:
        """(..., d_in): x itself."""
        return x


class AdaptedConv1D(AdaptedLinear):
    """An adapted ``transformers.pytorch_utils.Conv1D``: a linear layer that keeps W0 as (d_in, d_out)."""

    @property
    def in_features(self) -> int:
        """d_in, as on ``nn.Linear``."""
        return self.lora_A.shape[1]

    @property
    def out_features(self) -> int:
        """d_out, as on ``nn.Linear``."""
        return self.lora_B.shape[0]

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """(..., d_out): the output for a weight (d_in, d_out)."""
        return F.linear(x, weight.T, self.base.bias)

    @classmethod
    def widths(cls, base: Any) -> tuple[int, int]:
        """d_in and d_out."""
        return tuple(base.weight.shape)

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """(d_in, d_out) the mean update s (B A)ᵀ."""
        return super().delta_weight().T.contiguous()
