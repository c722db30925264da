from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mofgap.study.config import JudgementConfig, Spread
from mofgap.study.judge.ablations import changes
from mofgap.study.judge.arms import Arms

N = 300
RNG = np.random.default_rng(0)
SCALE = RNG.lognormal(-1, 1, N)
ERROR = SCALE * RNG.standard_normal(N)
CHANCE = RNG.lognormal(-1, 1, N)


def rows(method: str, n_samples: int, variant: str, error: float, std: Any, seed: int = 0) -> pd.DataFrame:
    about = {"split": "split", "part": "test", "is_left_out": False, "variant": variant, "seed": seed}
    spread = {"epistemic_std_ev": std, "gap_std_ev": std}
    ids = {"id": [f"s{i}" for i in range(N)], "gap_dft_ev": np.full(N, 2.0), "gap_ev": 2.0 + error * ERROR}
    return pd.DataFrame(about | {"method": method, "n_samples": n_samples} | ids | spread)


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """A change that halves the error and forgets what is uncertain, and one of LoRA."""
    configured = [rows("balora-weights", n, "", 1.0, SCALE, seed) for n in (2, 8) for seed in (0, 1)]
    rivals = [rows("lora", 0, "", 1.0, np.nan), rows("lora-ensemble", 5, "", 1.0, CHANCE)]
    changed = [rows("balora-weights", 2, "better", 0.5, CHANCE), rows("lora", 0, "of-lora", 2.0, np.nan)]
    return pd.concat([*configured, *rivals, *changed], ignore_index=True)


def found(predictions: pd.DataFrame, spread: Spread) -> dict[tuple[str, str, str, str], dict[str, Any]]:
    config = JudgementConfig(n_draws=100)
    listed = list(changes(predictions, Arms.of(predictions, "split", spread), config))
    by_name = {(c["variant"], c["a"], c["b"], c["metric"]): c for c in listed}
    assert len(by_name) == len(listed)
    return by_name


def test_a_change_is_measured_against_the_same_method_at_as_many_draws(predictions: pd.DataFrame) -> None:
    total = found(predictions, "total")
    better = total["better", "balora-weights@2", "balora-weights@2", "mae_ev"]
    assert better["value"] == pytest.approx(-0.5 * np.abs(ERROR).mean())
    assert better["hi"] < 0
    assert (better["n"], better["n_seeds"], better["split"]) == (N, 1, "split")
    worse = total["better", "balora-weights@2", "balora-weights@2", "spearman"]
    assert worse["hi"] < 0
    assert total["of-lora", "lora", "lora", "mae_ev"]["lo"] > 0


def test_its_spread_is_measured_against_the_ensemble_too(predictions: pd.DataFrame) -> None:
    epistemic = found(predictions, "epistemic")
    assert set(epistemic) == {
        ("better", "balora-weights@2", other, "spearman") for other in ("balora-weights@2", "lora-ensemble@5")
    }
    same = epistemic["better", "balora-weights@2", "lora-ensemble@5", "spearman"]
    assert same["value"] == pytest.approx(0.0)  # the same spreads, and errors of the same order


def test_without_ablations_there_is_nothing(predictions: pd.DataFrame) -> None:
    assert found(predictions[predictions.variant == ""], "total") == {}
