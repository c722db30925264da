"""A run folder of `mofgap compare` in small: random predictions, and the tables that follow from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mofgap.uncertainty import metrics

N = 60
SAMPLES = {"balora-weights": (0, 2, 4, 8), "lora-ensemble": (1, 2, 3)}
METHODS = (
    "mean",
    "full",
    "lora",
    "lora-ensemble",
    "laplace",
    "balora-closed-form",
    "balora-weights",
    "alignn",
)
WITHOUT_SPREAD = ("mean", "alignn")


def predictions(splits: tuple[str, ...]) -> pd.DataFrame:
    """Predictions as ``predictions.parquet`` has them; more samples know the error better."""
    rng = np.random.default_rng(0)
    parts = []
    for split in splits:
        true = rng.uniform(0, 5, N)
        for method in METHODS:
            for seed in range(2 if method.startswith("balora") else 1):
                scale = rng.uniform(0.1, 0.6, N)
                gap = true + scale * rng.standard_normal(N)
                for n_samples in SAMPLES.get(method, (0,)):
                    blur = np.exp(rng.normal(0, 0.8 / (1 + n_samples), N))
                    std = np.full(N, np.nan) if method in WITHOUT_SPREAD else scale * blur
                    has_epistemic = method not in ("full", "lora") and (
                        method not in SAMPLES or n_samples >= 2
                    )
                    parts.append(
                        pd.DataFrame(
                            {
                                "split": split,
                                "method": method,
                                "variant": "",
                                "seed": seed,
                                "n_samples": int(n_samples),
                                "part": "test",
                                "id": [f"s{i}" for i in range(N)],
                                "is_left_out": [split.startswith("without") and i < 10 for i in range(N)],
                                "gap_dft_ev": true,
                                "gap_ev": np.maximum(gap, 0),
                                "epistemic_std_ev": std / 2 if has_epistemic else np.nan,
                                "aleatoric_std_ev": std / 2,
                                "gap_std_ev": std,
                                "lo_90_ev": gap - 1.64 * std,
                                "hi_90_ev": gap + 1.64 * std,
                                "novelty": rng.uniform(0, 1, N),
                            }
                        )
                    )
    return pd.concat(parts, ignore_index=True)


def _entries(frame: pd.DataFrame) -> list[dict[str, Any]]:
    entries = []
    for (split, method, n_samples), group in frame.groupby(["split", "method", "n_samples"], sort=False):
        for spread, column in {"total": "gap_std_ev", "epistemic": "epistemic_std_ev"}.items():
            has = bool(group[column].notna().all())
            if not has and spread == "epistemic":
                continue
            found = [_metrics(rows, column if has else None) for _, rows in group.groupby("seed")]
            cost = {
                "forward_passes": float(max(1, n_samples)), "predict_ms": 5.0 * max(1, n_samples),
                "train_seconds": 60.0, "peak_memory_mb": 700.0, "n_trainable": 100_000.0,
            }  # fmt: skip
            values = {name: [each[name] for each in found] for name in found[0]}
            mean = {name: float(np.mean(v)) if None not in v else None for name, v in values.items()} | cost
            entries.append(
                {
                    "split": split, "method": method, "variant": "", "n_samples": int(n_samples),
                    "spread": spread if has else "none", "calibration": "calibrated" if has else "raw",
                    "kind": "published" if method == "alignn" else "trained", "n_seeds": len(found),
                    "seeds": list(range(len(found))), "mean": mean,
                    "standard_error": {n: 0.01 if len(found) > 1 and v is not None else None
                                       for n, v in mean.items()},
                }
            )  # fmt: skip
    return entries


def _metrics(rows: pd.DataFrame, column: str | None) -> dict[str, float | None]:
    true, gap = rows.gap_dft_ev, rows.gap_ev
    found: dict[str, float | None] = {"mae_ev": metrics.mae(true, gap)}
    scores = ("spearman", "ause", "nll", "miscalibration_area")
    found |= {name: getattr(metrics, name)(true, gap, rows[column]) if column else None for name in scores}
    found["crps_ev"] = metrics.crps(true, gap, rows[column]) if column else None
    found["coverage_90"] = metrics.coverage(true, rows.lo_90_ev, rows.hi_90_ev) if column else None
    found["width_90_ev"] = metrics.mean_width(rows.lo_90_ev, rows.hi_90_ev) if column else None
    return found | {"auroc_novelty": None, "auroc_std": None, "mae_left_out_ev": None}


def _ablated(frame: pd.DataFrame) -> list[dict[str, Any]]:
    entries = _entries(frame[frame.method == "balora-closed-form"])
    return [each | {"variant": "rank-4"} for each in entries]


def write_run(folder: Path, splits: tuple[str, ...] = ("split", "group")) -> Path:
    """Write a run folder's tables."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = predictions(splits)
    frame.to_parquet(folder / "predictions.parquet", index=False)
    verdict = {
"estimator": "balora-closed-form",
        "spread": "epistemic", "metric": "spearman", "value": 0.3, "lo": 0.2, "hi": 0.4, "level": 0.95,
        "margin": None, "reason": "the interval lies above 0",
    }  # fmt: skip
    verdicts = [
        verdict
        | {
            "claim": claim,
            "statement": f"Statement {claim}.",
            "split": split,
            "headline": headline,
            "verdict": word,
        }
        for claim, word in zip("abcd", ("supported", "not supported", "undecided", "supported"), strict=True)
        for split in splits
        for headline in (True, False)
    ]
    paired = [
        {"split": split, "metric": "mae_ev", "a": "balora-closed-form", "b": "lora-ensemble@3", "value": 0.01,
         "lo": -0.02, "hi": 0.03, "level": 0.95, "n_draws": 1000, "n": N}
        for split in splits
    ]  # fmt: skip
    changes = [{**each, "b": each["a"], "variant": "rank-4", "n_seeds": 2} for each in paired]
    kinds = {
        split: {"kind": "without" if split.startswith("without") else "column", "n_train": 200, "n_val": 20,
                "n_test": N, "n_left_out": 0, "element": None, "n_test_sharing_group": 0}
        for split in splits
    }  # fmt: skip
    summary = {
        "version": 2, "definitions": {"mae_ev": "Mean absolute error."}, "n_bins": {"ence": 10},
        "splits": kinds, "methods": _entries(frame) + _ablated(frame), "paired": paired, "trends": [],
        "verdicts": verdicts, "ablations": changes,
    }  # fmt: skip
    (folder / "comparison.json").write_text(json.dumps(summary, allow_nan=False))
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "tiny")
