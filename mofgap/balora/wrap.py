"""Wrap a pretrained model, as ``get_peft_model`` of PEFT does."""

from __future__ import annotations

from torch import nn

from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.features import Callback
from mofgap.balora.wrapper import BaLoRAModel


def get_balora_model(
    model: nn.Module,
    config: BaLoRAConfig | None = None,
    *,
    features: Callback | None = None,
    rows: Callback | None = None,
) -> BaLoRAModel:
    """Wrap a model as PEFT's ``get_peft_model`` does, with Bayesian adapters.

    Args:
        model: The pretrained model; it is frozen and wrapped in place.
        config: Which layers to adapt, and how; by default all linear layers.
        features: As of `BaLoRAModel`.
        rows: As of `BaLoRAModel`.

    Returns:
        The wrapped model, in training mode if ``model`` is.

    Raises:
        TypeError: If ``config`` is no `BaLoRAConfig`.
        ValueError: If a pattern of ``config`` matches no layer, or the model is adapted already.
    """
    if config is not None and not isinstance(config, BaLoRAConfig):
        raise TypeError(f"config is a {type(config).__name__}: write BaLoRAConfig(...)")
    return BaLoRAModel(model, config or BaLoRAConfig(), features, rows)
