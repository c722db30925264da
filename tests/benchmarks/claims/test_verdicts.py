from __future__ import annotations

import numpy as np
import pytest

from benchmarks.claims.arms import TaskArms
from benchmarks.claims.config import JudgementConfig
from benchmarks.claims.estimates import Estimate
from benchmarks.claims.verdicts import ALL, Judge

N = 200
LABELS = np.arange(N) % 2


def estimates(accuracy: float, seeds: int, *, knows: float = 0.0, seed: int = 0) -> list[Estimate]:
    """Trainings of an accuracy, whose spread is large at the errors in so many of them."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(seeds):
        wrong = rng.random(N) > accuracy
        right = np.where(wrong, 0.3, 0.8)
        p = np.stack([np.where(c == LABELS, right, 1 - right) for c in (0, 1)], 1)
        noise = rng.random(N)
        found.append(Estimate(p, np.where(wrong & (rng.random(N) < knows), 1.0 + noise, noise)))
    return found


def arms(name: str = "one", **ways: list[Estimate]) -> TaskArms:
    keys = {("balora", 1): "few", ("balora", 2): "two", ("balora", 4): "four", ("balora", 8): "eight"}
    keys |= {("lora", 1): "lora", ("ensemble", 5): "ensemble", ("full", 1): "full"}
    found = {
        (*key, split): ways[word] for key, word in keys.items() if word in ways for split in ("test", "far")
    }
    return TaskArms(name, {"test": LABELS, "far": LABELS}, found, {})


def verdict(judge: Judge, claim: str, task: str) -> str:
    return next(v["verdict"] for v in judge.verdicts() if (v["claim"], v["task"]) == (claim, task))


CONFIG = JudgementConfig(n_draws=100, margin=0.02)
LORA = estimates(0.75, 8, seed=1)


@pytest.mark.parametrize(("knows", "expected"), [(0.9, "supported"), (0.0, "not supported")])
def test_a_spread_is_judged_against_the_ensemble(knows: float, expected: str) -> None:
    ensemble = estimates(0.75, 4, knows=0.45, seed=2)
    judge = Judge([arms(lora=LORA, eight=estimates(0.75, 4, knows=knows), ensemble=ensemble)], CONFIG)
    assert verdict(judge, "a", "one") == expected


def test_a_spread_is_judged_with_as_many_samples_and_against_one_entropy() -> None:
    ways = {"two": estimates(0.75, 4), "eight": estimates(0.75, 4, knows=0.9)}
    ensemble = estimates(0.75, 4, knows=0.45, seed=2)
    judge = Judge([arms(lora=LORA, ensemble=ensemble, **ways)], CONFIG)
    assert verdict(judge, "a", "one") == "supported"
    assert verdict(judge, "a-few", "one") == "not supported"
    assert verdict(judge, "a-lora", "one") == "not supported"  # LoRA's entropy knows every error here


def test_accuracy_may_fall_by_the_margin() -> None:
    same = Judge([arms(lora=LORA, eight=LORA)], JudgementConfig(n_draws=100, margin=0.2))
    assert verdict(same, "c", "one") == "supported"
    worse = Judge([arms(lora=LORA, eight=estimates(0.5, 4))], CONFIG)
    assert verdict(worse, "c", "one") == "not supported"


def test_no_gap_is_narrowed_where_full_fine_tuning_is_not_better() -> None:
    eight = estimates(0.95, 4)
    judge = Judge([arms(lora=LORA, eight=eight, full=estimates(0.6, 4))], CONFIG)
    assert verdict(judge, "d", "one") == "not supported"
    judge = Judge([arms(lora=LORA, eight=eight, full=estimates(0.95, 4, seed=5))], CONFIG)
    assert verdict(judge, "d", "one") == "supported"


def test_more_samples_are_judged_by_one_curve() -> None:
    few, many = estimates(0.75, 4, knows=0.1), estimates(0.75, 4, knows=0.9)
    assert verdict(Judge([arms(lora=LORA, two=few, eight=many)], CONFIG), "b", "one") == "supported"
    assert verdict(Judge([arms(lora=LORA, two=many, eight=few)], CONFIG), "b", "one") == "not supported"
    assert verdict(Judge([arms(lora=LORA, two=few, eight=few)], CONFIG), "b", "one") == "undecided"


def test_a_curve_has_the_numbers_of_samples_that_all_tasks_have() -> None:
    few, many = estimates(0.75, 4, knows=0.1), estimates(0.75, 4, knows=0.9)
    whole = arms("one", lora=LORA, two=few, four=many, eight=few)
    short = arms("two", lora=LORA, two=few, four=many, eight=few[:1])
    assert verdict(Judge([whole, short], CONFIG), "b", ALL) == "supported"


def test_the_mean_over_tasks_has_a_narrower_interval() -> None:
    one = arms("one", lora=LORA, eight=estimates(0.8, 4))
    two = arms("two", lora=estimates(0.75, 8, seed=7), eight=estimates(0.8, 4, seed=8))
    found = Judge([one, two], CONFIG).difference("accuracy", ("balora", 8), ("lora", 1))
    width = {task: each.hi - each.lo for task, each in found.items()}
    assert width[ALL] < min(width["one"], width["two"])
    assert found[ALL].value == pytest.approx((found["one"].value + found["two"].value) / 2)
