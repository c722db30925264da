"""Encoders by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.encoders.encoder import Encoder


def _crystal_transformer(settings: Mapping[str, Any]) -> Encoder:
    known = [field.name for field in fields(CrystalTransformerConfig)]
    for name in settings:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}{_nearest(name, known)}")
    return CrystalTransformer(CrystalTransformerConfig(**settings))


ENCODERS: dict[str, Callable[[Mapping[str, Any]], Encoder]] = {"crystal_transformer": _crystal_transformer}
"""Name of an encoder, and what builds it from its settings. Add yours here."""


def build_encoder(name: str, settings: Mapping[str, Any]) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        ValueError: An unknown name or setting; the message names the nearest.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}{_nearest(name, ENCODERS)}")
    return ENCODERS[name](settings)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
