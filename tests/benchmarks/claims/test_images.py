import json
from pathlib import Path

import pytest
import torch

from benchmarks.claims.images import CORRUPTIONS, Images, emoji, optdigits

STYLES = ("google", "twitter")


def packages_of(folder: Path, rows: dict[str, tuple[str, str]], *, without: str = "") -> Path:
    """The packages of npm with one coloured image a row; rows are category and subcategory by code point."""
    from PIL import Image

    listed = [
        {
            "unified": unified,
            "image": f"{unified.lower()}.png",
            "category": category,
            "subcategory": subcategory,
            "has_img_google": True,
            "has_img_twitter": unified != without,
        }
        for unified, (category, subcategory) in rows.items()
    ]
    for style in STYLES:
        package = folder / f"emoji-datasource-{style}"
        (package / "img" / style / "64").mkdir(parents=True)
        (package / "emoji.json").write_text(json.dumps(listed))
        for i, row in enumerate(listed):
            drawn = Image.new("RGBA", (64, 64), (10 * i, 0, STYLES.index(style), 255))
            drawn.putpixel((0, 0), (0, 0, 0, 0))
            drawn.save(package / "img" / style / "64" / str(row["image"]))
    return folder


ROWS = {
    "1F600": ("Smileys & Emotion", "face"),
    "1F436": ("Animals & Nature", "animal"),
    "2764-FE0F": ("Smileys & Emotion", "heart"),
    "1F468-1F3FB": ("People & Body", "person"),  # a skin tone
    "1F550": ("Travel & Places", "time"),  # a clock face
    "1F3C1": ("Flags", "flag"),
}


def test_emoji_that_resemble_others_and_other_categories_are_left_out(tmp_path: Path) -> None:
    found = emoji(packages_of(tmp_path, ROWS), "google")
    assert found.labels.tolist() == [2, 0, 0]  # by code point
    assert found.pixels.shape == (3, 3, 64, 64)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    pixels = emoji(packages_of(tmp_path, ROWS), "google").pixels
    assert (pixels[:, :, 0, 0] == 1).all()
    assert (pixels[:, 1, 1:, 1:] == 0).all()


def test_a_row_is_the_same_emoji_in_every_style(tmp_path: Path) -> None:
    packages = packages_of(tmp_path, ROWS, without="1F600")
    google, twitter = (emoji(packages, style).pixels for style in STYLES)
    assert len(google) == 2
    torch.testing.assert_close(google[:, 0], twitter[:, 0])  # red is the row, blue the style


def test_an_absent_package_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"emoji-datasource-google.*npm install"):
        emoji(tmp_path, "google")


def test_classes_are_numbered_by_their_place() -> None:
    images = Images(torch.arange(4.0).view(4, 1, 1, 1), torch.tensor([9, 4, 7, 4]))
    found = images.of_classes((4, 9))
    assert found.labels.tolist() == [1, 0, 0]
    assert found.pixels.flatten().tolist() == [0, 1, 3]


def test_digits_of_other_writers_have_the_frame_and_range_of_mnist() -> None:
    digits = optdigits()
    assert digits.pixels.shape == (1797, 1, 28, 28)
    assert digits.pixels.min() == 0 and 0.9 < digits.pixels.max() <= 1
    frame = digits.pixels.clone()
    frame[:, :, 4:-4, 4:-4] = 0
    assert (frame == 0).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_an_image_but_not_its_shape_range_or_mean(name: str) -> None:
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    found = CORRUPTIONS[name](pixels, torch.Generator().manual_seed(1))
    assert found.shape == pixels.shape
    assert found.min() >= 0 and found.max() <= 1
    assert (found - pixels).abs().mean() > 0.05
    torch.testing.assert_close(found.mean((1, 2, 3)), pixels.mean((1, 2, 3)), atol=0.02, rtol=0)
