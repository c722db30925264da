from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mofgap.study.config import JudgementConfig
from mofgap.study.judge.arms import Arms, common
from mofgap.study.judge.judgement import Bootstrap, _towards_good, pairs, rising, trend, trends, verdicts
from mofgap.study.judge.statistics import ause, crps_ev, mae, spearman
from mofgap.study.methods.method import NEIGHBOURS
from mofgap.uncertainty import metrics
from mofgap.uncertainty.bootstrap import Interval, paired_bootstrap

CONFIG = JudgementConfig(n_draws=100)
N = 400


def rows(
    method: str, gap: np.ndarray, std: np.ndarray, label: np.ndarray, n_samples: int = 0, seed: int = 0
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "split": "split",
            "part": "test",
            "method": method,
            "variant": "",
            "seed": seed,
            "n_samples": n_samples,
            "id": [f"s{i}" for i in range(len(label))],
            "is_left_out": False,
            "gap_dft_ev": label,
            "gap_ev": gap,
            "epistemic_std_ev": std,
            "gap_std_ev": std,
        }
    )


def made(
    *,
    knows: float = 1.0,
    shift: float = 0.0,
    noise_of: tuple[float, ...] = (0.9, 0.6, 0.3, 0.0),
    lora_error: float = 1.0,
) -> pd.DataFrame:
    """BaLoRA whose spread mixes the true scale and chance, an ensemble that knows nothing, LoRA, full."""
    rng = np.random.default_rng(0)
    label, scale = rng.uniform(1, 4, N), rng.lognormal(-1, 1, N)
    error = scale * rng.standard_normal(N)
    chance = rng.lognormal(-1, 1, N)
    frames = []
    for n, noise in zip((2, 4, 8, 16), noise_of, strict=True):
        for seed in range(2):
            own = np.random.default_rng([n, seed]).lognormal(-1, 1, N)
            std = (scale**knows * chance ** (1 - knows)) ** (1 - noise) * own**noise
            gap = label + error + shift * np.sign(error)
            frames.append(rows("balora-weights", gap, std, label, n, seed))
    frames += [rows("lora", label + lora_error * error, np.full(N, np.nan), label, 0, s) for s in range(2)]
    frames.append(rows("lora-ensemble", label + error, chance, label, 5))
    frames.append(rows("full", label + 0.5 * error, np.full(N, np.nan), label))
    return pd.concat(frames, ignore_index=True)


def all_verdicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    arms = Arms.of(frame, "split", "epistemic")
    return verdicts(arms, CONFIG, list(trends(arms, CONFIG)))


def judged(frame: pd.DataFrame) -> dict[str, str]:
    found = all_verdicts(frame)
    assert all(v["headline"] and v["estimator"] == "balora-weights" for v in found)
    return {v["claim"]: v["verdict"] for v in found}


def test_a_spread_that_knows_its_error_better_is_found_to() -> None:
    assert judged(made())["a"] == "supported"
    assert judged(made(knows=0.0))["a"] == "undecided"
    worse = made(knows=0.0)
    ensemble = worse.method == "lora-ensemble"
    error = (worse.gap_ev - worse.gap_dft_ev).abs()
    worse.loc[ensemble, "epistemic_std_ev"] = error[ensemble]
    assert judged(worse)["a"] == "not supported"


def test_a_rising_curve_is_told_from_a_flat_and_a_falling_one() -> None:
    assert judged(made())["b"] == "supported"
    assert judged(made(noise_of=(0.0, 0.0, 0.0, 0.0)))["b"] == "undecided"
    assert judged(made(noise_of=(0.0, 0.3, 0.6, 0.9)))["b"] == "not supported"
    dip = judged(made(noise_of=(0.9, 0.0, 0.9, 0.0)))
    assert dip["b"] == "not supported"  # the whole gain is there, but a step falls


def test_accuracy_is_judged_against_the_margin() -> None:
    assert (CONFIG.margin_ev, CONFIG.level) == (0.005, 0.95)
    assert judged(made())["c"] == "supported"
    assert judged(made(shift=0.004))["c"] == "supported"
    assert judged(made(shift=0.02))["c"] == "not supported"


def test_a_gap_is_narrowed_only_where_there_is_one() -> None:
    assert judged(made(lora_error=1.2))["d"] == "supported"
    assert judged(made(lora_error=0.8))["d"] == "not supported"
    (found,) = [v for v in all_verdicts(made(lora_error=0.4)) if v["claim"] == "d"]
    assert found["verdict"] == "not supported"
    assert "no gap to narrow" in found["reason"]


def test_with_one_seed_it_is_the_paired_bootstrap() -> None:
    frame = made()
    frame = frame[(frame.seed == 0)]
    arms = Arms.of(frame, "split", "epistemic")
    a, b = arms.last("balora-weights"), arms.last("lora-ensemble")
    assert a is not None and b is not None and a.std_ev is not None and b.std_ev is not None
    (found,) = Bootstrap(0.95, 200, 1)(lambda both: spearman(both[0]) - spearman(both[1]), (a, b))
    oracle = paired_bootstrap(
        metrics.spearman,
        a.gap_dft_ev,
        (a.gap_ev[0], a.std_ev[0]),
        (b.gap_ev[0], b.std_ev[0]),
        n_draws=400,
        seed=5,
    )
    assert np.isclose(found.value, oracle.value)
    assert abs(found.lo - oracle.lo) < 0.03
    assert abs(found.hi - oracle.hi) < 0.03


def test_seeds_that_differ_widen_the_interval() -> None:
    frame = made()
    arms = Arms.of(frame, "split", "epistemic")
    other = frame.copy()
    second = (other.method == "lora") & (other.seed == 1)
    other.loc[second, "gap_ev"] += 0.5 * np.sign(other.gap_ev - other.gap_dft_ev)[second]
    widths = []
    for each in (arms, Arms.of(other, "split", "epistemic")):
        lora = each.last("lora")
        assert lora is not None
        (found,) = Bootstrap(0.95, 300, 0)(lambda drawn: mae(drawn[0]), (lora,))
        widths.append(found.hi - found.lo)
    assert widths[1] > 2 * widths[0]


def test_the_last_arm_is_the_one_that_all_seeds_reach() -> None:
    frame = made()
    frame = frame[~((frame.n_samples == 16) & (frame.seed == 1))]
    arms = Arms.of(frame, "split", "epistemic")
    last = arms.last("balora-weights")
    assert last is not None
    assert (last.n_samples, last.n_seeds) == (8, 2)
    assert [(arm.n_samples, arm.n_seeds) for arm in arms.curve("balora-weights")] == [
        (2, 1),
        (4, 1),
        (8, 1),
        (16, 1),
    ]


def test_arms_meet_on_the_rows_that_both_have() -> None:
    frame = made()
    frame = frame[~((frame.method == "full") & frame.id.isin(["s3", "s77"]))].sample(frac=1, random_state=0)
    arms = Arms.of(frame, "split", "epistemic")
    full, lora = arms.last("full"), arms.last("lora")
    assert full is not None and lora is not None
    a, b = common(full, lora)
    assert a.n == b.n == N - 2
    assert (a.ids == b.ids).all()
    assert np.array_equal(a.gap_dft_ev, b.gap_dft_ev)


def test_pairs_and_trends_say_what_they_are_of() -> None:
    arms = Arms.of(made(), "split", "total")
    found = list(pairs(arms, CONFIG))
    assert {(p["a"], p["b"]) for p in found if p["metric"] == "mae_ev"} == {
        ("balora-weights@16", "lora"),
        ("balora-weights@16", "lora-ensemble@5"),
        ("balora-weights@4", "lora-ensemble@5"),
        ("balora-weights@16", "full"),
    }
    assert {p["metric"] for p in found if p["b"] == "lora"} == {"mae_ev"}
    found = list(trends(arms, CONFIG))
    assert {t["method"] for t in found} == {"balora-weights"}
    (one,) = [t for t in found if t["metric"] == "ause"]
    assert one["gain"]["value"] == pytest.approx(one["value"][-1] - one["value"][0])
    assert one["verdict"] == "supported"  # it falls, which is good


def test_a_curve_says_of_how_many_trainings_it_is() -> None:
    frame = made()
    few = frame[~((frame.method == "balora-weights") & (frame.n_samples == 16) & (frame.seed == 1))]
    for of, rows_of in (("2 trainings", frame), ("1 training", few)):
        (rising,) = [v for v in all_verdicts(rows_of) if v["claim"] == "b"]
        assert rising["reason"].startswith(f"Spearman at S = 16 minus S = 2, of {of};")


def test_all_are_measured_against_what_others_published() -> None:
    frame = made()
    balora = frame.method.str.startswith("balora")
    theirs = frame[frame.method == "full"].assign(method="theirs", gap_std_ev=np.nan, epistemic_std_ev=np.nan)
    frame = pd.concat([frame, frame[balora].assign(method=frame.method + NEIGHBOURS), theirs])
    for headline in ("balora-weights", "balora-weights" + NEIGHBOURS):
        config = JudgementConfig(n_draws=20, estimator=headline)  # type: ignore[arg-type]
        found = {(p["a"], p["b"]) for p in pairs(Arms.of(frame, "split", "total"), config)}
        assert {a for a, b in found if b == "theirs"} == {f"{headline}@16"}


def test_with_neighbours_the_rivals_have_them_too() -> None:
    frame = made()
    frame = pd.concat([frame, frame.assign(method=frame.method + NEIGHBOURS)[frame.method != "full"]])
    arms = Arms.of(frame, "split", "epistemic")
    found = [v for v in verdicts(arms, CONFIG, list(trends(arms, CONFIG))) if not v["headline"]]
    assert {v["estimator"] for v in found} == {"balora-weights+neighbours"}
    assert [v["claim"] for v in found] == ["a", "b", "c"]  # there is no full fine-tuning with one
    assert all("+neighbours@5" in v["reason"] for v in found if v["claim"] == "a")
    spearmans = [p for p in pairs(arms, CONFIG) if p["metric"] == "spearman"]
    against = {(p["a"], p["b"]) for p in spearmans if p["a"].startswith("balora-weights+neighbours")}
    name = "balora-weights+neighbours"
    assert against == {
        (f"{name}@{n}", f"lora-ensemble{suffix}@5") for n in (16, 4) for suffix in ("", NEIGHBOURS)
    }


def test_statistics_of_resampled_rows_are_those_of_the_metrics() -> None:
    frame = made()
    frame["epistemic_std_ev"] = frame.epistemic_std_ev.round(1)  # ties, besides those of resampling
    arm = Arms.of(frame, "split", "epistemic").last("balora-weights")
    assert arm is not None
    drawn = arm.taken(np.random.default_rng(0).integers(N, size=N), np.array([1, 1, 0]))
    assert drawn.std_ev is not None
    seeds = list(zip(drawn.gap_ev, drawn.std_ev, strict=True))
    assert mae(drawn) == pytest.approx(np.mean([metrics.mae(drawn.gap_dft_ev, gap) for gap, _ in seeds]))
    for mine, metric in ((spearman, metrics.spearman), (ause, metrics.ause), (crps_ev, metrics.crps)):
        expected = np.mean([metric(drawn.gap_dft_ev, gap, std) for gap, std in seeds])
        assert mine(drawn) == pytest.approx(expected, rel=1e-9)


def test_only_ordinary_test_rows_are_judged() -> None:
    frame = made()
    wild = frame.assign(gap_dft_ev=frame.gap_dft_ev * 3, epistemic_std_ev=frame.gap_ev, id="w" + frame.id)
    more = [frame, wild.assign(part="val"), wild.assign(is_left_out=True), wild.assign(variant="rank-1")]
    assert all_verdicts(pd.concat(more, ignore_index=True)) == all_verdicts(frame)


def test_a_gain_without_a_trend_supports_nothing() -> None:
    up, unknown, down = Interval(0.1, 0.05, 0.2), Interval(0.3, -0.3, 1.0), Interval(-0.1, -0.2, -0.05)
    assert rising(up, up, [up, unknown]) == "supported"
    assert rising(up, unknown, [up]) == "undecided"
    assert rising(up, up, [up, down]) == "not supported"
    turned = _towards_good("mae_ev", down)
    assert rising(turned, turned, [turned, unknown]) == "supported"


def test_steps_of_a_curve_are_judged_the_more_strictly_the_more_there_are() -> None:
    frame = made()
    two = frame[(frame.method != "balora-weights") | frame.n_samples.isin([2, 4])]
    widths = []
    for each in (frame, two):
        found = trend(
            Arms.of(each, "split", "epistemic"), "balora-weights", "spearman", Bootstrap(0.95, 600, 0)
        )
        assert found is not None
        widths.append(found["steps"][0]["hi"] - found["steps"][0]["lo"])
    assert widths[0] > 1.1 * widths[1]  # a normal distribution gives 1.22


def test_no_gap_is_narrowed_that_is_not_there_beyond_chance() -> None:
    frame = made(lora_error=1.2)
    lora = frame[(frame.method == "lora") & (frame.seed == 0)]
    error = (lora.gap_ev - lora.gap_dft_ev).to_numpy()
    frame.loc[frame.method == "full", "gap_ev"] = lora.gap_dft_ev.to_numpy() + 0.99 * error[::-1]
    assert judged(frame)["d"] == "undecided"
