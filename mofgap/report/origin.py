"""Where a page comes from: date, version, command, models, and whom to cite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mofgap.gap.folder import CALIBRATION, find_model, read_config
from mofgap.shipped import CARD, CONFIG
from mofgap.uncertainty.calibrate import Calibration
from mofgap.whole_file import sha256_of


@dataclass(frozen=True)
class ModelOrigin:
    """What is known of a model that made a page's numbers.

    Attributes:
        name: Name of the model.
        level: Level of theory of its labels.
        citation: Whom to cite for its data set.
        card: Its model card, Markdown; empty where it is not at hand.
        is_raw: Whether its error bars are known not to be calibrated.
        is_other: Whether another model of its name was found, of which nothing is said here.
    """

    name: str
    level: str = ""
    citation: str = ""
    card: str = ""
    is_raw: bool = False
    is_other: bool = False


def model_origins(digests: Mapping[str, str | None]) -> list[ModelOrigin]:
    """Models by their names, with their cards where their folders are found from here.

    Args:
        digests: The sha256 of the config of each model, by its name; None where it is not known.
    """
    return [_origin(name, digest) for name, digest in digests.items()]


def _origin(name: str, digest: str | None) -> ModelOrigin:
    try:
        folder: Path = find_model(name)
        if digest and sha256_of(folder / CONFIG) != digest:
            return ModelOrigin(name, is_other=True)
        about = dict(read_config(folder)["about"])
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        is_raw = Calibration.load(folder / CALIBRATION).is_raw
    except (OSError, KeyError, TypeError, ValueError):
        return ModelOrigin(name)
    level, citation = (str(about.get(key, "")) for key in ("level_of_theory", "citation"))
    return ModelOrigin(name, level, citation, text, is_raw)
