"""Adapted linear layers: torch's own, and the transposed one of Hugging Face transformers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mofgap.balora.layer import AdaptedLayer


class AdaptedLinear(AdaptedLayer):
    """An adapted ``nn.Linear``. Inputs are (..., d_in); the rest is as in `AdaptedLayer`."""

    @property
    def widths(self) -> tuple[int, int]:
        """Those of the layer."""
        return self.base.in_features, self.base.out_features

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

    @property
    def widths(self) -> tuple[int, int]:
        """The shape of W0."""
        return tuple(self.base.weight.shape)

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """(d_in, d_out) the mean update s (B A)ᵀ."""
        return super().delta_weight().T.contiguous()
