"""Methods by name: which are compared, of which kind they are, and what one prediction costs."""

from __future__ import annotations

import math

NEIGHBOURS = "+neighbours"
"""Ends the name of a method that predicts with the neighbour correction."""

ENSEMBLE = "lora-ensemble"
BASELINES = ("mean", "composition", "scratch")
TRAINED = (
    "full",
    "lora",
    ENSEMBLE,
    "mc-dropout",
    "laplace",
    "balora-distance",
    "balora-closed-form",
    "balora-weights",
    "balora-rows",
)
SAMPLING = ("balora-weights", "balora-rows", "mc-dropout", ENSEMBLE)
"""Those that say more with more draws or members."""


def plain(method: str) -> str:
    """The name of a method without its neighbour correction."""
    return method.removesuffix(NEIGHBOURS)


def kind(method: str) -> str:
    """``trained`` here, a ``baseline``, or ``published``."""
    name = plain(method)
    return "trained" if name in TRAINED else "baseline" if name in BASELINES else "published"


def is_network(method: str) -> bool:
    """Whether it is a network that the comparison trained, with or without the neighbour correction."""
    return kind(method) == "trained" or plain(method) == "scratch"


def forward_passes(method: str, n_samples: int) -> float:
    """Cost of one prediction in forward passes: a draw or a member is one, a backward pass counts as two.

    A neighbour correction that goes by gradients takes one forward and one backward pass for each member;
    draws come on top.
    """
    if not is_network(method):
        return math.nan
    name = plain(method)
    corrected = name != method and name not in ("full", "scratch")
    if name == "balora-closed-form" or (corrected and n_samples == 0):
        return 3.0
    if corrected:
        return 3.0 * n_samples if name == ENSEMBLE else 3.0 + n_samples
    return float(max(1, n_samples))
