"""Where a page comes from: date, version, command, models, and whom to cite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mofgap.gap.folder import CALIBRATION, find_model, read_config
from mofgap.shipped import CARD
from mofgap.uncertainty.calibrate import Calibration


@dataclass(frozen=True)
class ModelOrigin:
    """What is known of a model that made a page's numbers.

    Attributes:
        name: Name of the model.
        level: Level of theory of its labels.
        citation: Whom to cite for its data set.
        card: Its model card, Markdown; empty where it is not at hand.
        is_raw: Whether its error bars are known not to be calibrated.
    """

    name: str
    level: str = ""
    citation: str = ""
    card: str = ""
    is_raw: bool = False


def model_origins(names: Iterable[str]) -> list[ModelOrigin]:
    """The models of those names, with their cards where their folders are found from here."""
    return [_origin(name) for name in names]


def _origin(name: str) -> ModelOrigin:
    try:
        folder: Path = find_model(name)
        about = dict(read_config(folder)["about"])
        card = folder / CARD
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        is_raw = Calibration.load(folder / CALIBRATION).is_raw
    except (OSError, KeyError, TypeError, ValueError):
        return ModelOrigin(name)
    level, citation = (str(about.get(key, "")) for key in ("level_of_theory", "citation"))
    return ModelOrigin(name, level, citation, text, is_raw)
