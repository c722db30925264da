"""Encoders by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.encoders.encoder import Encoder


def _crystal_transformer(settings: Mapping[str, Any]) -> Encoder:
    return CrystalTransformer(CrystalTransformerConfig(**settings))


ENCODERS: dict[str, Callable[[Mapping[str, Any]], Encoder]] = {"crystal_transformer": _crystal_transformer}
"""Name of an encoder, and what builds it from its settings. Add yours here."""


def build_encoder(name: str, settings: Mapping[str, Any]) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        ValueError: An unknown name; the message names the nearest.
    """
    if name not in ENCODERS:
        near = difflib.get_close_matches(name, ENCODERS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(ENCODERS)}"
        raise ValueError(f"unknown encoder {name!r}{hint}")
    return ENCODERS[name](settings)
