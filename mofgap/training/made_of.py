"""What encoders and gap models are made of, by the files of their folders, before torch is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mofgap.configuration import ConfigurationError, plain
from mofgap.encoders.registry import DEFAULT_ARCHITECTURE, encoder_class
from mofgap.shipped import CONFIG, DESCRIPTION
from mofgap.training.config import NETWORK, TrainingConfig
from mofgap.whole_file import read_json

_UNREAD = {"full": ("blocks", "modules", "rank", "prior_rate"), "lora": ("prior_rate",)}
"""Settings of a network that a method does not read."""


def model_settings(folder: Path) -> dict[str, Any]:
    """What a gap model is made of, by our names; empty where its file is damaged, which loading explains."""
    found = _section(folder / CONFIG, "model")
    blocks = re.search(r"\((\d[\d|]*)\)", str(found.get("target_modules")))
    return found | ({"blocks": tuple(map(int, blocks[1].split("|")))} if blocks else {})


def kept(made_of: Mapping[str, Any], asked: TrainingConfig) -> list[str]:
    """What differs of settings in the model that a training goes on from: ``rank 4, not 64`` each.

    Args:
        made_of: `model_settings` of the model, which stay.
        asked: The settings, of which a default cannot be told from a value that was written down.
    """
    left = _UNREAD.get(made_of.get("method", ""), ())
    names = [name for name in NETWORK if name in made_of and name not in left]
    pairs = ((name, plain(made_of[name]), plain(getattr(asked, name))) for name in names)
    return [f"{name} {here}, not {there}" for name, here, there in pairs if here != there]


def check_adapted(asked: TrainingConfig, encoder: Path) -> None:
    """Check that an encoder has the blocks and layers that get adapters.

    Args:
        asked: Names them.
        encoder: Its folder. Where its description is damaged nothing is checked, since loading explains it.

    Raises:
        ConfigurationError: If the encoder lacks a block of ``blocks`` or a layer of ``modules``.
    """
    n_blocks = _section(encoder / DESCRIPTION, "encoder").get("n_blocks")
    if not isinstance(n_blocks, int):
        return
    if wrong := [block for block in asked.blocks if block >= n_blocks]:
        words = f"the encoder has blocks 0 to {n_blocks - 1}, not {', '.join(map(str, wrong))}"
        raise ConfigurationError(words, key="blocks")
    if asked.modules is None:
        return
    architecture = read_json(encoder / DESCRIPTION).get("architecture", DEFAULT_ARCHITECTURE)
    try:
        had = encoder_class(architecture).adaptable  # imports torch
    except (ValueError, AttributeError):  # an unknown name, or none
        return
    if unknown := [name for name in asked.modules if name not in had]:
        words = f"a block of the encoder has the layers {', '.join(had)}, not {', '.join(unknown)}"
        raise ConfigurationError(words, key="modules")


def _section(path: Path, name: str) -> dict[str, Any]:
    """A section of a JSON file; empty where it is damaged."""
    found = read_json(path).get(name)
    return found if isinstance(found, dict) else {}
