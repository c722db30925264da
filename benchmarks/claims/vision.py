"""Images: emoji by EfficientNet-Lite0 with ImageNet's weights, and digits by a small vision transformer.

All images come from packages. Shifted sets are corrupted test images, the same classes drawn by other hands,
and classes that no training saw.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.claims import efficientnet, transformer
from benchmarks.claims.config import ClaimsConfig, VisionConfig
from benchmarks.claims.images import CORRUPTIONS, UNSEEN_EMOJI, Images, emoji, mnist, optdigits
from benchmarks.claims.task import Backbone, Split, Task

PRETRAINING_DIGITS = (0, 1, 2, 3)
DIGITS = (4, 5, 6, 7, 8)
"""Digits that are told apart."""
UNSEEN_DIGITS = (9,)
"""Digits that neither the pretraining nor a training sees."""


class Classifier(nn.Module):
    """The last blocks of a pretrained network, and a new head.

    Args:
        trunk: The blocks; they return (n, width) features.
        width: Of the features.
        n_classes: Number of classes.
    """

    def __init__(self, trunk: nn.Module, width: int, n_classes: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_classes) logits from what the earlier blocks return."""
        logits: Tensor = self.head(self.trunk(x))
        return logits


@dataclass(frozen=True)
class LastBlocks:
    """A backbone: the last blocks of a network, whose earlier blocks are run once.

    Attributes:
        trunk: The blocks.
        width: Of the features that they return.
        n_features: Width of what they get, channels or tokens.
        positions: Dimensions of what they get that are averaged as alpha's input.
        target_modules: Layers to adapt.
        head: Name of the new head.
    """

    trunk: nn.Module
    width: int
    n_features: int
    positions: tuple[int, ...]
    target_modules: tuple[str, ...]
    head: str = "head"

    def features(self, x: Tensor) -> Tensor:
        """(n, n_features), the mean over the image of what the earlier blocks return."""
        return x.mean(self.positions)

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """A copy of the blocks, and a head of this seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Classifier(copy.deepcopy(self.trunk), self.width, n_classes)


def backbones(settings: ClaimsConfig) -> Mapping[str, Backbone]:
    """The networks by name."""
    config = settings.vision
    assert config is not None
    blocks = transformer.late(_transformer(config), config.late_layers)
    found: dict[str, Backbone] = {
        "transformer": LastBlocks(blocks, transformer.WIDTH, transformer.WIDTH, (1,), transformer.TARGETS),
    }
    if config.emoji is not None:
        late = efficientnet.LateBlocks(_efficientnet(config), config.late_blocks)
        found["efficientnet"] = LastBlocks(
            late, efficientnet.WIDTH, late.n_channels, (2, 3), efficientnet.TARGETS
        )
    return found


def tasks(settings: ClaimsConfig) -> list[Task]:
    """Digits, and emoji where the settings name their packages."""
    config = settings.vision
    assert config is not None
    return [digit_task(config)] + ([] if config.emoji is None else [emoji_task(config, config.emoji)])


def emoji_task(config: VisionConfig, packages: Path) -> Task:
    """Seven categories of emoji in Noto's drawings; shifted are Twemoji's drawings and two more categories.

    Args:
        config: Numbers of images.
        packages: Folder of the packages, as of `benchmarks.claims.images.emoji`.
    """
    net = _efficientnet(config)
    noto, unseen = emoji(packages, "google"), emoji(packages, "google", UNSEEN_EMOJI)
    twemoji = emoji(packages, "twitter").taken(_rows(len(noto), config)[2])  # the same emoji as in test

    def run(pixels: Tensor) -> Tensor:
        return efficientnet.early(net, pixels, config.image_size, config.late_blocks) / scale

    scale = torch.ones(())
    if not config.pretrained:
        scale = run(noto.taken(_rows(len(noto), config)[0]).pixels).std()
    return _task("emoji", "efficientnet", noto, {"twemoji": twemoji}, unseen, run, config)


def digit_task(config: VisionConfig) -> Task:
    """Five digits of MNIST; shifted are those of other writers, and a digit that nothing has seen."""
    net = _transformer(config)
    images = mnist().of_classes(DIGITS)
    others = _some(optdigits().of_classes(DIGITS), config)
    unseen = _some(mnist().of_classes(UNSEEN_DIGITS), config)

    def run(pixels: Tensor) -> Tensor:
        return transformer.early(net, pixels, config.late_layers)

    return _task("digits", "transformer", images, {"other-writers": others}, unseen, run, config)


def _task(
    name: str,
    backbone: str,
    images: Images,
    others: dict[str, Images],
    unseen: Images,
    run: Callable[[Tensor], Tensor],
    config: VisionConfig,
) -> Task:
    """A task whose inputs are what the earlier blocks make of images."""

    def split(found: Images) -> Split:
        return Split((run(found.pixels),), found.labels)

    parts = [images.taken(rows) for rows in _rows(len(images), config)]  # train, val and test
    some = parts[2].first(config.n_shifted)
    generator = torch.Generator().manual_seed(config.seed)
    shifted = {
        corruption: Images(corrupted(some.pixels, generator), some.labels)
        for corruption, corrupted in CORRUPTIONS.items()
    }
    shifted |= {other: each.first(config.n_shifted) for other, each in others.items()}
    splits = {shift: split(each) for shift, each in shifted.items()}
    splits["unseen"] = Split((run(_some(unseen, config).pixels),), None)
    n_classes = 1 + int(images.labels.max())
    train, val, test = map(split, parts)
    return Task(name, backbone, n_classes, train, val, test, splits)


def _rows(n: int, config: VisionConfig) -> tuple[Tensor, ...]:
    """Indices of the images of train, val and test.

    Raises:
        ValueError: No image is left for test.
    """
    left = n - config.n_train - config.n_val
    if left < 1:
        raise ValueError(f"n_train and n_val leave none of {n} images to judge by")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(config.seed))
    sizes = (config.n_train, config.n_val, min(config.n_test, left))
    return tuple(order[: sum(sizes)].split(sizes))


def _some(images: Images, config: VisionConfig) -> Images:
    """As many images as a shifted set has, in random order."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(config.seed))
    return images.taken(order).first(config.n_shifted)


@cache
def _efficientnet(config: VisionConfig) -> Any:
    return efficientnet.loaded() if config.pretrained else efficientnet.unloaded(config.seed)


@cache
def _transformer(config: VisionConfig) -> nn.Sequential:
    """The transformer; it is pretrained where the folder does not have it."""
    from safetensors.torch import load_model, save_model

    net = transformer.made(config.seed)
    if not config.pretrained:
        return net
    recipe = json.dumps([PRETRAINING_DIGITS, config.passes, config.seed])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    path = config.cache / f"transformer-{digest}.safetensors"
    if path.is_file():
        load_model(net, path)
        return net
    transformer.pretrain(net, mnist().of_classes(PRETRAINING_DIGITS), config.passes, config.seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(net, str(path))
    return net
