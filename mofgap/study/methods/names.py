"""Methods by name: which are compared, of which kind they are, and what one prediction costs."""

from __future__ import annotations

import math

MEMORY = "+memory"
"""Ends the name of a method that predicts with a memory of its training structures."""

ENSEMBLE = "lora-ensemble"
BASELINES = ("mean", "composition", "scratch")
TRAINED = (
    "full",
    "lora",
    ENSEMBLE,
    "mc-dropout",
    "laplace",
    "balora-closed-form",
    "balora-weights",
    "balora-rows",
)
SAMPLING = ("balora-weights", "balora-rows", "mc-dropout", ENSEMBLE)
"""Those that say more with more draws or members."""


def plain(method: str) -> str:
    """The name of a method without its memory."""
    return method.removesuffix(MEMORY)


def kind(method: str) -> str:
    """``trained`` here, a ``baseline``, or ``published``."""
    name = plain(method)
    return "trained" if name in TRAINED else "baseline" if name in BASELINES else "published"


def is_network(method: str) -> bool:
    """Whether it is a network that the comparison trained, which may have a memory."""
    return kind(method) == "trained" or plain(method) == "scratch"


def forward_passes(method: str, n_samples: int) -> float:
    """Cost of one prediction in forward passes: a draw or a member is one, a backward pass counts as two.

    Where a memory goes by gradients, each member is looked up, and draws are made around the mean that was.
    """
    if not is_network(method):
        return math.nan
    name = plain(method)
    looked_up = name != method and name not in ("full", "scratch")
    if name == "balora-closed-form" or (looked_up and n_samples == 0):
        return 3.0
    if looked_up:
        return 3.0 * n_samples if name == ENSEMBLE else 3.0 + n_samples
    return float(max(1, n_samples))
