"""The list of all encoders, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mofgap.nearest import hint

if TYPE_CHECKING:
    from mofgap.encoders.encoder import Encoder, EncoderConfig

ENCODERS: dict[str, tuple[str, str]] = {
    "crystal-transformer": ("mofgap.encoders.crystal_transformer", "CrystalTransformer"),
    "schnet": ("mofgap.encoders.schnet", "SchNet"),
}
"""Name of an encoder -> its module and class. The module is imported when the encoder is used."""

DEFAULT_ARCHITECTURE = "crystal-transformer"
"""The encoder of folders whose files do not name one."""


def registered(name: str) -> str:
    """The name of an encoder in `ENCODERS`; folders of older versions write ``_`` for ``-``.

    Raises:
        ValueError: If no encoder has the name ``name``; the message names the nearest one.
    """
    for known in (name, name.replace("_", "-")):
        if known in ENCODERS:
            return known
    raise ValueError(f"unknown encoder {name!r}; {hint(name, ENCODERS)}")


def encoder_class(name: str) -> type[Encoder]:
    """The class of an encoder.

    Raises:
        ValueError: If no encoder has the name ``name``; the message names the nearest one.
    """
    module, cls = ENCODERS[registered(name)]
    found: type[Encoder] = getattr(import_module(module), cls)
    return found


def encoder_config(name: str, settings: Mapping[str, Any]) -> EncoderConfig:
    """The settings of an encoder as an instance of its config class, with defaults for those not given.

    Raises:
        ValueError: If the encoder ``name`` or a setting is unknown, or a value has another type than the
            default or is out of range.
    """
    cls = encoder_class(name).Config
    defaults = {field.name: field.default for field in fields(cls)}
    for key, value in settings.items():
        if key not in defaults:
            raise ValueError(f"{name}: unknown setting {key!r}; {hint(key, defaults)}")
        kind = type(defaults[key])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"{name}: {key} must be of type {kind.__name__}, not {value!r}")
    return cls(**settings)


def build_encoder(name: str, settings: Mapping[str, Any]) -> Encoder:
    """Build an encoder with random weights.

    Raises:
        ValueError: If the encoder ``name`` or a setting is unknown, or a value has another type than the
            default or is out of range.
    """
    return encoder_class(name)(encoder_config(name, settings))
