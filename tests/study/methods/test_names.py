from __future__ import annotations

import math

import pytest

from mofgap.study.methods.names import (
    BASELINES,
    NEIGHBOURS,
    SAMPLING,
    TRAINED,
    forward_passes,
    is_network,
    kind,
)


def test_each_method_is_of_one_kind_with_and_without_neighbours() -> None:
    assert not set(TRAINED) & set(BASELINES) and set(SAMPLING) < set(TRAINED)
    for name in ("full", "full" + NEIGHBOURS, "lora-ensemble" + NEIGHBOURS):
        assert kind(name) == "trained" and is_network(name)
    assert kind("scratch" + NEIGHBOURS) == "baseline" and is_network("scratch" + NEIGHBOURS)
    assert kind("composition") == "baseline" and not is_network("composition")
    assert kind("alignn") == "published" and not is_network("alignn")


@pytest.mark.parametrize(
    ("method", "n_samples", "passes"),
    [
        ("lora", 0, 1),
        ("lora-ensemble", 5, 5),
        ("balora-closed-form", 0, 3),  # a backward pass is two
        ("balora-weights", 8, 8),
        ("full" + NEIGHBOURS, 0, 1),  # its neighbours go by activations, without gradients
        ("lora" + NEIGHBOURS, 0, 3),
        ("balora-distance" + NEIGHBOURS, 0, 3),
        ("lora-ensemble" + NEIGHBOURS, 5, 15),
        ("balora-weights" + NEIGHBOURS, 8, 11),
    ],
)
def test_a_prediction_costs_its_passes(method: str, n_samples: int, passes: float) -> None:
    assert forward_passes(method, n_samples) == passes


def test_what_is_no_network_has_no_passes() -> None:
    assert math.isnan(forward_passes("composition", 0)) and math.isnan(forward_passes("alignn", 0))
