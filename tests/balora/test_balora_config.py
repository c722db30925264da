from __future__ import annotations

import json

import pytest

from mofgap.balora import BaLoRAConfig


def test_round_trip_through_json() -> None:
    config = BaLoRAConfig(target_modules=("query", "value"), rank=4, initial_alpha=0.01)
    assert BaLoRAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_prior_variance_and_scaling() -> None:
    config = BaLoRAConfig(target_modules=("a",), rank=4, lora_alpha=8.0, prior_rate=0.2)
    assert config.prior_variance == pytest.approx(0.25)
    assert config.scaling == 2.0


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'lora_alhpa'; did you mean 'lora_alpha'"):
        BaLoRAConfig.from_dict({"target_modules": ["a"], "lora_alhpa": 8})


def test_unknown_key_far_from_all_lists_them() -> None:
    with pytest.raises(ValueError, match=r"'zzz'; known: target_modules, rank"):
        BaLoRAConfig.from_dict({"target_modules": ["a"], "zzz": 8})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "target_modules is missing"),
        ({"target_modules": []}, "at least one name"),
        ({"target_modules": "query"}, "tuple"),
        ({"target_modules": ["("]}, "no regular expression"),
        ({"target_modules": ["a"], "rank": 0}, "rank must be positive"),
        ({"target_modules": ["a"], "rank": 2.5}, "rank must be a whole number, got 2.5"),
        ({"target_modules": ["a"], "lora_alpha": "8"}, "lora_alpha must be positive, got '8'"),
        ({"target_modules": ["a"], "initial_alpha": -1.0}, "initial_alpha must be positive"),
        ({"target_modules": ["a"], "prior_rate": 1.0}, "between 0 and 1"),
        ({"target_modules": ["a"], "prior_rate": float("nan")}, "between 0 and 1"),
    ],
)
def test_bad_values_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BaLoRAConfig.from_dict(values)
