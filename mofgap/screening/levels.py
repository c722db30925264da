"""Levels of theory: the shipped model of each, and what a table of two levels is ranked by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from mofgap.choices import check_choice

Level = Literal["pbe", "hse06", "both"]
LEVELS: tuple[Level, ...] = get_args(Level)

MODELS = {"pbe": "qmof-pbe", "hse06": "qmof-hse06"}
"""The shipped model of each level."""

DEFAULT: Level = "both"
"""Taken where neither a level nor a model is asked for."""

Models = tuple[str | Path, str | Path | None]
"""The model of a table's ordinary columns, and that of its `PBE_COLUMNS`; None where there are none."""

_GEOMETRY = re.compile(r"//|@|\bat\b|\bon\b").split
_PBE = re.compile(r"\bPBE\b", re.IGNORECASE).search


def models_of(level: Level | None, model: str | Path | None) -> Models:
    """The models to screen with.

    Of both levels together, HSE06 fills the ordinary columns, and PBE its own.

    Args:
        level: What was asked for; None for that of the model, and `DEFAULT` without one.
        model: A model that was asked for by its name or folder, which has its own level.

    Raises:
        ValueError: If ``level`` is unknown, or ``level`` and ``model`` are both given.
    """
    if level is None and model is not None:
        return model, None
    level = DEFAULT if level is None else level
    check_choice("level", level, LEVELS)
    if model is not None:
        raise ValueError(f"level {level} names the shipped models to take: give a level or a model, not both")
    return (MODELS["hse06"], MODELS["pbe"]) if level == "both" else (MODELS[level], None)


def in_lower_case(level: object) -> object:
    """A level in lower case, as in `LEVELS`: ``hse06`` for ``HSE06``."""
    return level.lower() if isinstance(level, str) else level


def functional(level_of_theory: str) -> str:
    """A level of theory without its geometry: ``HSE06`` of ``HSE06 at PBE-D3(BJ) geometry``."""
    return _GEOMETRY(level_of_theory, maxsplit=1)[0].strip()


def ranking_words(level_of_theory: str) -> str:
    """What a table of two levels is ranked by, in one line; the level is that of its ordinary columns."""
    first = functional(level_of_theory)
    return f"ranks and window use the {first} gap; the PBE gap stands next to it"


def is_pbe(level_of_theory: str) -> bool:
    """Whether gaps are PBE gaps, at any geometry."""
    return _PBE(functional(level_of_theory)) is not None
