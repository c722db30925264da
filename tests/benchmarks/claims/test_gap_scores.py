from __future__ import annotations

import numpy as np
import pytest

from benchmarks.claims import gap_scores
from benchmarks.claims.arms import Arm, TaskArms
from benchmarks.claims.config import JudgementConfig
from benchmarks.claims.estimates import Estimate
from benchmarks.claims.verdicts import Judge
from mofgap.uncertainty import metrics

RNG = np.random.default_rng(0)
N = 300
LABELS = RNG.uniform(0, 4, N)
MEAN = LABELS + RNG.normal(size=(2, N))
STD = RNG.uniform(0.5, 2, (2, N))
EPISTEMIC = RNG.uniform(0.1, 1, (2, N))
ARM = Arm("way", 4, LABELS, RNG.random(N) < 0.5, np.stack([MEAN, STD], 2), EPISTEMIC)


@pytest.mark.parametrize("name", ["nll", "crps_ev", "ence", "spearman"])
def test_scores_are_those_of_the_package(name: str) -> None:
    metric = getattr(metrics, name.removesuffix("_ev"))
    each = [metric(LABELS, m, np.sqrt(s**2 + e)) for m, s, e in zip(MEAN, STD, EPISTEMIC, strict=True)]
    assert getattr(gap_scores, name)(ARM) == pytest.approx(np.mean(each))


def test_the_spread_leaves_the_likelihood_out() -> None:
    each = [metrics.spearman(LABELS, m, e) for m, e in zip(MEAN, EPISTEMIC, strict=True)]
    assert gap_scores.spearman_epistemic(ARM) == pytest.approx(np.mean(each))
    none = Arm("way", 1, LABELS, ARM.is_shifted, ARM.predicted, np.zeros((2, N)))
    assert gap_scores.spearman_epistemic(none) == 0
    assert gap_scores.auroc_shifted_epistemic(none) == 0.5


def trainings(error_ev: float, n: int, *, knows: bool = False, seed: int = 0) -> list[Estimate]:
    """Trainings of an error, whose spread follows it or not."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        error = error_ev * rng.normal(size=N)
        spread = error**2 if knows else rng.random(N)
        found.append(Estimate(np.stack([LABELS + error, np.full(N, error_ev)], 1), 0.01 * spread))
    return found


def test_claims_about_gaps_are_judged_by_their_own_scores() -> None:
    estimates = {
        ("lora", 1, "test"): trainings(0.5, 8, seed=1),
        ("ensemble", 5, "test"): trainings(0.5, 4, seed=2),
        ("balora", 8, "test"): trainings(0.2, 4, knows=True),
        ("full", 1, "test"): trainings(0.4, 4, seed=3),
    }
    judge = Judge(
        [TaskArms("one", {"test": LABELS}, estimates, {})], JudgementConfig(n_draws=50, margin=0.005)
    )
    found = {verdict["claim"]: verdict for verdict in judge.verdicts()}
    assert {found[claim]["verdict"] for claim in ("a", "c", "d", "e", "f")} == {"supported"}
    assert found["c"]["score"] == "mae_ev"
    assert found["c"]["value"] == pytest.approx(0.24, abs=0.03)  # more is better
    assert "error" in found["a"]["statement"]
