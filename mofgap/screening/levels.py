"""Levels of theory: which shipped model answers for which, and which of two stands beside the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

Level = Literal["pbe", "hse06", "both"]
LEVELS: tuple[Level, ...] = get_args(Level)

MODELS = {"pbe": "qmof-pbe", "hse06": "qmof-hse06"}
"""The shipped model of each level."""

DEFAULT: Level = "pbe"

Models = tuple[str | Path, str | Path | None]
"""The model of a table's ordinary columns, and that of the columns beside them, None without any."""

_GEOMETRY = re.compile(r"//|@|\bat\b|\bon\b").split
_PBE = re.compile(r"\bPBE\b", re.IGNORECASE).search


def models_of(level: Level | None, model: str | Path | None) -> Models:
    """Which models to screen with.

    Both levels together are HSE06, which an experiment is comparable with, and PBE beside it.

    Args:
        level: What was asked for; None for the default.
        model: A model that was asked for by its name or folder, which has its own level.

    Raises:
        ValueError: The level ``level`` is unknown, or ``level`` and ``model`` are both given.
    """
    if level is None:
        return (MODELS[DEFAULT] if model is None else model), None
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    if model is not None:
        raise ValueError(f"level {level} names the shipped models to take: give a level or a model, not both")
    return (MODELS["hse06"], MODELS["pbe"]) if level == "both" else (MODELS[level], None)


def functional(level_of_theory: str) -> str:
    """A level of theory without its geometry: ``HSE06`` of ``HSE06 at PBE-D3(BJ) geometry``."""
    return _GEOMETRY(level_of_theory, maxsplit=1)[0].strip()


def is_pbe(level_of_theory: str) -> bool:
    """Whether gaps are those of PBE, whatever the geometry they are computed at."""
    return _PBE(functional(level_of_theory)) is not None
