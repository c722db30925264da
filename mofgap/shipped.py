"""Where shipped models, example CIFs and data lie: inside an installed wheel, or at the top of a clone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mofgap.nearest import hint

_PACKAGE = Path(__file__).parent
_CLONE = _PACKAGE.parent
PREFIX = "shipped:"
"""Begins a path in a configuration that leads to what mofgap ships: ``shipped:examples``."""

DEFAULT_MODEL = "qmof-hse06"
"""Predicts where no model is asked for."""

DEFAULT_ENCODER = "crystal-transformer"
"""The pretrained encoder of a training that names none."""

CONFIG, CARD, METRICS, COST = "config.json", "card.md", "metrics.json", "cost.json"
"""Files of a model: its settings, with the hashes of what it computes with, and what is told of it."""

LOG, LAST = "metrics.csv", "last.ckpt"
"""Figures of each epoch and the last checkpoint, in the folder of a training."""

DESCRIPTION, ENCODER_WEIGHTS = "encoder.json", "encoder.safetensors"
"""Files of an encoder, which has a card too: its settings, with the hash of its weights, and these."""


def shipped_folder(kind: str) -> Path:
    """Folder of shipped ``models``, ``examples``, ``data``, ``configs`` or ``tables``.

    Raises:
        FileNotFoundError: If this installation of mofgap has no folder of ``kind``.
    """
    in_clone = {
        "models": _CLONE / "models",
        "examples": _CLONE / "data" / "examples",
        "data": _CLONE / "data",
        "configs": _CLONE / "configs",
        "tables": _CLONE / "docs" / "tables",
    }.get(kind, _CLONE / kind)
    for folder in (_PACKAGE / "shipped" / kind, in_clone):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"this installation of mofgap carries no {kind}")


def with_shipped(value: Any) -> Any:
    """Plain values with each ``shipped:KIND/REST`` replaced by the path of the shipped file.

    Raises:
        FileNotFoundError: If this installation of mofgap has nothing of that kind.
    """
    if isinstance(value, Mapping):
        return {name: with_shipped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [with_shipped(each) for each in value]
    if not isinstance(value, str) or not value.startswith(PREFIX):
        return value
    kind, _, rest = value.removeprefix(PREFIX).partition("/")
    return str(shipped_folder(kind) / rest)


DIGESTS = _PACKAGE / "digests.json"
"""The digest of each shipped model and encoder; ``python -m mofgap.training.release`` writes it."""


def shipped_digests() -> dict[str, str]:
    """The digests that shipped models and encoders have, by name."""
    found: dict[str, str] = json.loads(DIGESTS.read_text(encoding="utf-8"))
    return found


def model_folder(name: str | Path, file: str) -> Path | None:
    """The folder of the shipped model of that name, or of that path, that holds a file; None if neither.

    A text without a separator, such as ``qmof-pbe``, is a name first; ``./qmof-pbe`` is a path.
    """
    folders = [Path(name), shipped_folder("models") / name]
    if isinstance(name, str) and name == Path(name).name:
        folders.reverse()
    return next((folder for folder in folders if (folder / file).exists()), None)


def argument_of(folder: Path) -> str:
    """What `model_folder` finds a folder by: its path, with ``./`` if a shipped model has its name."""
    is_shipped = (shipped_folder("models") / folder.name).is_dir() and folder == Path(folder.name)
    return f"./{folder}" if is_shipped else str(folder)


def not_found(name: str | Path, file: str) -> str:
    """Words for a name that `model_folder` does not find, with the shipped name that was meant."""
    known = sorted(path.parent.name for path in shipped_folder("models").glob(f"*/{file}"))
    return f"{name}: neither a shipped name, nor a folder with {file}; {hint(str(name).lower(), known)}"
