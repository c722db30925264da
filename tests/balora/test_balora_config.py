from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from mofgap.balora import BaLoRAConfig


def test_round_trip_through_json() -> None:
    config = BaLoRAConfig(target_modules=("query", "value"), r=4, initial_alpha=0.01)
    assert BaLoRAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_prior_variance_and_scaling() -> None:
    config = BaLoRAConfig(target_modules=("a",), r=4, lora_alpha=8.0, prior_rate=0.2)
    assert config.prior_variance == pytest.approx(0.25)
    assert config.scaling_of("a") == 2.0


def test_ranks_and_scales_of_single_layers() -> None:
    config = BaLoRAConfig(
        target_modules="all-linear",
        r=4,
        lora_alpha=8.0,
        rank_pattern={"query": 2},
        alpha_pattern={"^1.key": 6.0},
    )
    assert [config.rank_of(name) for name in ("0.query", "query", "0.subquery", "key")] == [2, 2, 4, 4]
    assert [config.scaling_of(name) for name in ("0.query", "1.key", "0.1.key")] == [4.0, 1.5, 2.0]


def test_files_of_before_call_the_rank_by_another_name() -> None:
    assert BaLoRAConfig.from_dict({"target_modules": ["a"], "rank": 3}).r == 3


def test_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'lora_alhpa'; did you mean 'lora_alpha'"):
        BaLoRAConfig.from_dict({"target_modules": ["a"], "lora_alhpa": 8})


def test_unknown_key_far_from_all_lists_them() -> None:
    with pytest.raises(ValueError, match=r"'zzz'; known: target_modules, r,"):
        BaLoRAConfig.from_dict({"target_modules": ["a"], "zzz": 8})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "target_modules is missing"),
        ({"target_modules": []}, "target_modules is empty"),
        ({"target_modules": "("}, "no regular expression"),
        ({"target_modules": ["a"], "rank_pattern": {"(": 2}}, "rank_pattern: .* no regular expression"),
        ({"target_modules": ["a"], "rank_pattern": {"b": 0}}, "rank_pattern of b must be positive"),
        ({"target_modules": ["a"], "alpha_pattern": {"b": "8"}}, "alpha_pattern of b must be positive"),
        ({"target_modules": ["a"], "posterior": "gaussian"}, "posterior must be one of network"),
        ({"target_modules": ["a"], "noise": "row"}, "noise must be one of weights, rows"),
        ({"target_modules": ["a"], "posterior": "analytic"}, "needs n_train"),
        ({"target_modules": ["a"], "posterior": "analytic", "n_train": 9, "beta": 0.0}, "and a beta"),
        ({"target_modules": ["a"], "beta": -1.0}, "beta must not be negative"),
        ({"target_modules": ["("]}, "no regular expression"),
        ({"target_modules": [0, 2]}, "target_modules: 0 is no name; write it as text, such as '0'"),
        ({"target_modules": ["a"], "beta": "1"}, "beta must be a number, got '1'"),
        (
            {"target_modules": ["a"], "rank_pattern": ["a"]},
            "rank_pattern must map names of layers to numbers",
        ),
        ({"target_modules": ["a"], "flipout": "no"}, "flipout must be True or False, got 'no'"),
        ({"target_modules": ["a"], "r": 0}, "r must be positive"),
        ({"target_modules": ["a"], "r": 2.5}, "r must be a whole number, got 2.5"),
        ({"target_modules": ["a"], "lora_alpha": "8"}, "lora_alpha must be positive, got '8'"),
        ({"target_modules": ["a"], "initial_alpha": -1.0}, "initial_alpha must be positive"),
        ({"target_modules": ["a"], "prior_rate": 1.0}, "between 0 and 1"),
        ({"target_modules": ["a"], "prior_rate": float("nan")}, "between 0 and 1"),
    ],
)
def test_bad_values_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BaLoRAConfig.from_dict(values)


def test_numbers_of_numpy_are_numbers() -> None:
    numbers = {"r": np.int64(4), "lora_alpha": np.float32(8.0), "rank_pattern": {"0": np.int32(2)}}
    config = BaLoRAConfig(**numbers, prior_rate=np.float32(0.1), beta=np.int64(1))
    assert BaLoRAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"posterior": "analytic", "n_train": -4}, "n_train must be positive, got -4"),
        ({"lora_alpha": math.inf}, "lora_alpha must be positive and finite, got inf"),
        ({"beta": math.inf}, "beta must not be negative or infinite, got inf"),
        ({"r": True}, "r must be positive"),
        ({"r": None}, "r must be positive, got None"),
        ({"rank_pattern": {"0": None}}, "rank_pattern of 0 must be positive, got None"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BaLoRAConfig(**settings)
