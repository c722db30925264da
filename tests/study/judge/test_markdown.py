"""comparison.md of a small summary, table by table."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mofgap.study.judge.markdown import SPREAD_COLUMNS, markdown

Tables = dict[str, list[list[dict[str, str]]]]
VALUES = dict.fromkeys(SPREAD_COLUMNS, 0.5) | {"mae_ev": 0.25, "rmse_ev": 1.5, "r2": 0.9}
COSTS = {"n_trainable": 12345.0, "n_train": 100.0, "epochs": 2.0}
LEFT_OUT = {"auroc_novelty": 0.9, "auroc_distance": 0.8, "auroc_std": None, "mae_left_out_ev": 0.75}


def method(name: str, n_samples: int = 0, split: str = "random", **more: Any) -> dict[str, Any]:
    mean = VALUES | COSTS | LEFT_OUT | {"forward_passes": 1.0} | more.pop("mean", {})
    entry = {"method": name, "n_samples": n_samples, "split": split, "variant": "", "n_seeds": 2}
    entry |= {"kind": "trained", "spread": "epistemic", "calibration": "raw", "mean": mean}
    return entry | {"standard_error": {"mae_ev": 0.0123, "spearman": None}} | more


def difference(value: float | None, lo: float = -0.1, hi: float = 0.2) -> dict[str, Any]:
    return {"value": value, "lo": lo, "hi": hi}


@pytest.fixture
def summary() -> dict[str, Any]:
    sizes = {"n_train": 100, "n_val": 20, "n_calibration": 19, "n_test": 30, "n_left_out": 0}
    random = {"kind": "column", "element": None, "n_test_sharing_group": None} | sizes
    cobalt = random | {"kind": "without", "element": "Co", "n_left_out": 7, "n_test_sharing_group": 3}
    total = {"spread": "total", "calibration": "calibrated"}
    verdict = {"split": "random", "spread": "epistemic", "reason": "why", "estimator": "balora-weights"}
    return {
        "splits": {"random": random, "without-Co": cobalt},
        "methods": [
            method("balora-weights", 4, mean={"mae_ev": 9.0}),
            method("balora-weights", 8),
            method("balora-weights", 16, n_seeds=1, mean={"mae_ev": 9.0}),
            method("balora-weights", 8, mean={"spearman": 0.6}, **total),
            method("lora", mean={"spearman": None, "mae_ev": 0.3}, spread="none"),
            method("lora", mean={"spearman": 0.7}, **total),
            method("theirs", kind="published", spread="none"),
            method("balora-weights", 8, "without-Co", **total),
            method("balora-weights", 8, variant="rank-1", mean={"spearman": 0.1}),
            method("balora-weights", 8, variant="rank-1", mean={"crps_ev": 0.2}, **total),
        ],
        "verdicts": [
            verdict | {"claim": "b", "statement": "B", "verdict": "undecided", "headline": True}
            | difference(0.05),
            verdict | {"claim": "a", "statement": "A", "verdict": "supported", "headline": True}
            | difference(0.15, 0.1),
            verdict | {"claim": "a", "statement": "A", "verdict": "not supported", "headline": False}
            | difference(None),
        ],
        "trends": [
            {"method": "balora-weights", "split": "random", "metric": "spearman", "spread": "epistemic"}
            | {"n_seeds": 2, "samples": [2, 8], "value": [0.25, 1.5], "verdict": "supported"}
            | {"gain": difference(1.25), "trend": difference(1.0)},
        ],
        "paired": [
            {"a": "balora-weights@8", "b": "lora", "split": "random", "metric": "mae_ev", "spread": "total"}
            | {"n": 30} | difference(-0.05),
        ],
        "ablations": [
            {"variant": "rank-1", "a": "balora-weights@8", "b": "lora", "split": "random", "n_seeds": 1}
            | {"metric": "mae_ev", "spread": "total"} | difference(0.125),
        ],
        "definitions": {"mae_ev": "mean absolute error, eV"},
        "bootstrap": {"level": 0.95, "n_draws": 1000},
    }  # fmt: skip


def tables(text: str) -> Tables:
    """Each table below its heading, as rows of header -> cell."""
    found: Tables = {}
    heading, table, header = "", [], []
    for line in [*text.splitlines(), ""]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif not line.startswith("|"):
            header = []
        elif not header:
            header, table = cells, []
            found.setdefault(heading, []).append(table)
        elif set(cells) != {"---"}:
            table.append(dict(zip(header, cells, strict=True)))
    return found


def test_splits_and_verdicts(summary: dict[str, Any]) -> None:
    found = tables(markdown(summary))
    random, cobalt = found["Comparison"][0]
    assert list(random.values()) == ["random", "column", "100", "20", "19", "30", "0", ""]
    assert (cobalt["left out"], cobalt["sharing a group with train"]) == ("7", "3")
    headline, others = found["Verdicts"]
    assert [row["claim"] for row in headline] == ["(a) A", "(b) B"]
    assert [row["verdict"] for row in headline] == ["**supported**", "**undecided**"]
    assert headline[0]["difference"] == "+0.1500 (+0.1000 to +0.2000)"
    assert headline[0]["spread"] == "balora-weights, epistemic" and headline[0]["of what"] == "why"
    assert [(row["verdict"], row["difference"]) for row in others] == [("not supported", "")]


def test_errors_and_spreads_are_of_most_seeds_and_then_most_draws(summary: dict[str, Any]) -> None:
    found = tables(markdown(summary))
    errors = {row["method"]: row for row in found["Errors"][0]}
    assert errors["balora-weights"]["MAE, eV (random)"] == "0.2500 ± 0.012"
    assert errors["lora"]["MAE, eV (random)"] == "0.3000 ± 0.012"
    assert errors["theirs"]["RMSE, eV (random)"] == "1.500" and errors["theirs"]["seeds"] == "2"
    ((raw,),) = found["Spread: epistemic, raw"]
    assert (raw["method"], raw["Spearman"], raw["width 90, eV"]) == ("balora-weights@8", "0.5000", "0.5000")
    (calibrated,) = found["Spread: total, calibrated"]
    assert [row["Spearman"] for row in calibrated] == ["0.6000", "0.7000"]
    assert "Spread: total, raw" not in found  # there is none


def test_curves_costs_and_pairs(summary: dict[str, Any]) -> None:
    found = tables(markdown(summary))
    ((curve,),) = found["Draws and members"]
    assert (curve["values"], curve["trainings"], curve["gets better"]) == (
        "2: 0.2500, 8: 1.500",
        "2",
        "supported",
    )
    assert curve["last - first"] == "+1.2500 (-0.1000 to +0.2000)"
    assert curve["Kendall's tau"] == "+1.0000 (-0.1000 to +0.2000)"
    costs = {row["method"]: row for row in found["Cost"][0]}
    assert set(costs) == {"balora-weights@8", "lora"}  # nobody knows what a published one cost
    assert costs["lora"]["trained parameters"] == "12,345" and costs["lora"]["passes"] == "1.000"
    ((pair,),) = found["Against each other"]
    assert list(pair.values()) == [
        "balora-weights@8", "lora", "random", "mae_ev, total", "-0.0500 (-0.1000 to +0.2000)", "30",
    ]  # fmt: skip


def test_what_differs_between_splits_is_said_for_each(summary: dict[str, Any]) -> None:
    summary["splits"]["group"] = summary["splits"]["random"]
    summary["methods"].append(method("lora", split="group", spread="none", n_seeds=1))
    ((*rows,),) = tables(markdown(summary))["Errors"]
    assert {row["method"]: row["seeds"] for row in rows} == {
        "balora-weights": "2",
        "lora": "2, 1",
        "theirs": "2",
    }


def test_an_ablation_stands_beside_what_it_changes(summary: dict[str, Any]) -> None:
    total = {"spread": "total", "calibration": "calibrated"}
    summary["methods"].append(method("lora", variant="rank-1") | total)
    methods, _ = tables(markdown(summary))["Ablations"]
    assert [row["ablation"] for row in methods if row["method"] == "lora"] == ["as configured", "rank-1"]


def test_left_out_elements_and_ablations(summary: dict[str, Any]) -> None:
    found = tables(markdown(summary))
    ((row,),) = found["Elements left out of training"]
    assert (row["element"], row["AUROC of novelty"], row["AUROC of std"]) == ("Co", "0.9000", "")
    assert row["MAE of left out, eV"] == "0.7500"
    methods, (change,) = found["Ablations"]
    assert [row["ablation"] for row in methods] == ["as configured", "as configured", "rank-1"]
    assert {row["method"] for row in methods} == {"balora-weights@8"}  # LoRA itself was not changed
    assert methods[2]["Spearman, epistemic"] == "0.1000" and methods[2]["CRPS, eV"] == "0.2000"
    assert methods[1]["Spearman, epistemic"] == ""  # without-Co has no raw epistemic spread
    assert (change["a - b"], change["trainings of a"]) == ("+0.1250 (-0.1000 to +0.2000)", "1")


def test_sections_without_content_are_left_out(summary: dict[str, Any]) -> None:
    few = copy.deepcopy(summary)
    del few["splits"]["without-Co"]
    few["methods"] = [m for m in few["methods"] if not m["variant"] and m["split"] == "random"]
    found = tables(markdown(few))
    assert not {"Elements left out of training", "Ablations"} & set(found)
    assert {"Verdicts", "Errors", "Cost"} <= set(found)


def test_definitions_and_settings_are_told(summary: dict[str, Any]) -> None:
    text = markdown(summary)
    assert "\n- `mae_ev`: mean absolute error, eV.\n" in text
    assert "95 % percentile intervals of 1000 resamplings" in text
    assert "intervals from 25 rows on, the spread from 200 on" in text
    assert text.endswith(".\n") and "\n\n\n" not in text
