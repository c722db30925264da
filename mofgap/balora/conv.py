"""The adapted convolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mofgap.balora.layer import AdaptedLayer


class AdaptedConv2d(AdaptedLayer):
    """An adapted ``nn.Conv2d`` without groups or dilation, padded with zeros.

    A is a convolution to r channels with the kernel, stride and padding of W0, and B a 1 x 1 convolution, as
    in PEFT. Inputs are (batch, channels, height, width). A row is a position of the output.
    """

    @property
    def widths(self) -> tuple[int, int]:
        """Size of a patch under the kernel, and channels of the output."""
        return self.base.weight[0].numel(), self.base.out_channels

    @property
    def n_signs(self) -> int:
        """One sign for each input channel."""
        channels: int = self.base.in_channels
        return channels

    def last(self, x: Tensor) -> Tensor:
        """(batch, height, width, channels)."""
        return super().last(x).movedim(1, -1)

    def output_last(self, y: Tensor) -> Tensor:
        """(batch, height, width, channels)."""
        return y.movedim(1, -1)

    def lift(self, h: Tensor) -> Tensor:
        """(batch, d_out, height, width) from h (batch, height, width, r)."""
        return super().lift(h).movedim(-1, 1)

    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """(batch, height, width, r) from x (batch, height, width, channels)."""
        kernel = weight.view(len(weight), *self.base.weight.shape[1:])
        return F.conv2d(x.movedim(-1, 1), kernel, None, self.base.stride, self.base.padding).movedim(1, -1)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """(batch, d_out, height, width): the output for a weight in the shape of W0."""
        return F.conv2d(x, weight, self.base.bias, self.base.stride, self.base.padding)

    def vectors(self, x: Tensor) -> Tensor:
        """(batch, positions, d_in): the patches under the kernel."""
        base = self.base
        padded = F.pad(x, base._reversed_padding_repeated_twice)
        return F.unfold(padded, base.kernel_size, stride=base.stride).mT

    def peft_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of A and B as weights of two convolutions."""
        A = (self.rank, *self.base.weight.shape[1:])
        return A, (self.base.out_channels, self.rank, 1, 1)

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """The mean update s B A in the shape of W0."""
        return super().delta_weight().view(self.base.weight.shape)
