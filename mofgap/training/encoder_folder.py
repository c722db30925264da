"""A pretrained encoder on disk: ``encoder.safetensors`` and what it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from mofgap.gap.folder import ModelError
from mofgap.shipped import model_folder
from mofgap.whole_file import sha256_of, write_json

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"


def save_encoder(folder: Path, weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Path:
    """Write weights and, last, their description with the weights' sha256.

    Args:
        folder: Where to.
        weights: The encoder's parameters by name.
        settings: ``encoder`` (its configuration) and whatever else made it.

    Returns:
        Path of the weights.
    """
    path = folder / WEIGHTS
    save_file(dict(weights), path)
    path.chmod(0o644)
    described = dict(settings) | {"sha256": sha256_of(path)}
    write_json(folder / DESCRIPTION, described, indent=2)
    return path


def find_encoder(name: str) -> tuple[Path, dict[str, Any]]:
    """Weights and settings of a pretrained encoder.

    Args:
        name: A folder that ``save_encoder`` wrote, or the name of a shipped one.

    Raises:
        ModelError: There is none, or it is damaged.
    """
    folder = model_folder(name, DESCRIPTION)
    if folder is None:
        raise ModelError(f"no encoder {name!r}: neither a folder with {DESCRIPTION} nor a shipped encoder")
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        sha256, settings = described["sha256"], dict(described["encoder"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error}") from error
    path = folder / WEIGHTS
    if not path.exists() or sha256_of(path) != sha256:
        raise ModelError(f"{path} is missing or is not the file it was saved as")
    return path, settings
