"""A small vision transformer, and its pretraining on digits that are not used for judging."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.claims.images import Images

WIDTH = 64
"""Number of features of a token and of an image."""
TARGETS = ("query", "key", "value")
"""The adapted layers."""
PATCH, SIDE, N_HEADS, N_BLOCKS = 7, 28, 4, 4


class Block(nn.Module):
    """Attention and a perceptron, each after a normalisation and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.output = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) from the same."""
        normed = self.before_attention(x)
        heads = (layer(normed) for layer in (self.query, self.key, self.value))
        split = (h.unflatten(-1, (N_HEADS, -1)).transpose(1, 2) for h in heads)
        mixed = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        x = x + self.output(mixed)
        changed: Tensor = self.down(F.gelu(self.up(self.before_mlp(x))))
        return x + changed


class Embedding(nn.Module):
    """Patches of the image as tokens, each with its position."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.position = nn.Parameter(0.1 * torch.randn((SIDE // PATCH) ** 2, WIDTH))

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, tokens, width) from (n, 1, 28, 28) in 0..1."""
        tokens: Tensor = self.patches((pixels - 0.13) / 0.31).flatten(2).mT  # mean and std of MNIST
        return tokens + self.position


class Pooled(nn.Module):
    """The mean of the normalised tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) from (n, tokens, width)."""
        features: Tensor = self.norm(x).mean(1)
        return features


def made(seed: int) -> nn.Sequential:
    """The embedding, four blocks and the pooling, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(Embedding(), *(Block() for _ in range(N_BLOCKS)), Pooled())
    net.eval()
    return net


def late(net: nn.Sequential, n_late: int) -> nn.Sequential:
    """A copy of the last blocks and the pooling."""
    return copy.deepcopy(nn.Sequential(*list(net)[-n_late - 1 :]))


@torch.no_grad()
def early(net: nn.Sequential, pixels: Tensor, n_late: int) -> Tensor:
    """The outputs (n, tokens, width) of the blocks before the last ones."""
    return torch.cat([net[: -n_late - 1](batch) for batch in pixels.split(500)])


def pretrain(net: nn.Sequential, images: Images, passes: int, seed: int) -> None:
    """Train a network in place to tell digits and their quarter turns apart.

    Args:
        net: Of `made`.
        images: Digits; every one is shown in all four quarter turns, each a class of its own.
        passes: Over the digits in all turns.
        seed: Of the order and of the random shifts, scales and rotations.
    """
    pixels = torch.cat([images.pixels.rot90(turn, (2, 3)) for turn in range(4)])
    labels = torch.cat([4 * images.labels + turn for turn in range(4)])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(net, nn.Linear(WIDTH, 4 * int(images.labels.max() + 1))).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    n_steps = passes * math.ceil(len(labels) / 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=n_steps)
    for _ in range(passes):
        for rows in torch.randperm(len(labels), generator=generator).split(64):
            loss = F.cross_entropy(model(_moved(pixels[rows], generator)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def _moved(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to a tenth, scaled by up to 15 % and turned by up to 12 degrees."""
    drawn = 2 * torch.rand(4, len(pixels), generator=generator) - 1
    angle, scale = 0.21 * drawn[0], 1 + 0.15 * drawn[1]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    matrix = torch.stack([cos, -sin, 0.2 * drawn[2], sin, cos, 0.2 * drawn[3]], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, align_corners=False)
