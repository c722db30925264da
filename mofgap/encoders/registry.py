"""Encoders by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.encoders.encoder import Encoder
from mofgap.nearest import hint


def _crystal_transformer(settings: Mapping[str, Any]) -> Encoder:
    known = [field.name for field in fields(CrystalTransformerConfig)]
    for name in settings:
        if name not in known:
            raise ValueError(f"unknown setting {name!r}; {hint(name, known)}")
    return CrystalTransformer(CrystalTransformerConfig(**settings))


ENCODERS: dict[str, Callable[[Mapping[str, Any]], Encoder]] = {"crystal_transformer": _crystal_transformer}
"""Name of an encoder, and what builds it from its settings. Add yours here."""


def build_encoder(name: str, settings: Mapping[str, Any]) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        ValueError: An unknown name or setting; the message names the nearest.
    """
    if name not in ENCODERS:
        raise ValueError(f"unknown encoder {name!r}; {hint(name, ENCODERS)}")
    return ENCODERS[name](settings)
