from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mofgap.study.report.compared import Compared, ComparisonError, label, place, read_compared
from mofgap.uncertainty import metrics


@pytest.fixture
def compared(run_folder: Path) -> Compared:
    return read_compared(run_folder)


def test_methods_are_read_in_the_order_of_their_labels(compared: Compared) -> None:
    best = compared.best[compared.best.split == "split"]
    assert best.method.tolist()[:3] == ["balora-closed-form", "balora-weights", "lora-ensemble"]
    assert best.n_samples.tolist()[:3] == [0, 8, 3] and set(best.spread) == {"total", "none"}
    assert compared.splits == ["split", "group"] and compared.element_splits == []
    assert label("balora-closed-form") == "BaLoRA, closed form" and label("new") == "new"
    assert label("lora+neighbours") == "LoRA + neighbours" and place("lora+neighbours") == place("lora")


def test_all_trainings_count_before_more_draws_of_one(compared: Compared) -> None:
    entries, predictions = list(compared.summary["methods"]), compared.predictions
    drawn = (predictions.method == "balora-weights") & (predictions.n_samples == 8)
    one = predictions[drawn & (predictions.seed == predictions.seed.min())]
    entries += [
        each | {"n_samples": 99, "n_seeds": 1}
        for each in entries
        if each["method"] == "balora-weights" and each["n_samples"] == 8
    ]
    longer = pd.concat([predictions, one.assign(n_samples=99)], ignore_index=True)
    found = Compared(compared.name, compared.summary | {"methods": entries}, longer)
    best = found.best[found.best.method == "balora-weights"]
    assert set(best.n_samples) == {8} and (best.n_seeds == 2).all()
    assert len(found.seeds("group", "balora-weights")) == 2


def test_metrics_of_the_tables_are_those_of_the_predictions(compared: Compared) -> None:
    seeds = compared.seeds("group", "balora-weights")
    assert len(seeds) == 2 and all((rows.n_samples == 8).all() for rows in seeds)
    mae = np.mean([metrics.mae(rows.gap_dft_ev, rows.gap_ev) for rows in seeds])
    row = compared.best.query("split == 'group' and method == 'balora-weights'").iloc[0]
    assert row["mean.mae_ev"] == pytest.approx(mae)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "comparison.json").unlink(), "no comparison.json"),
        (lambda run: (run / "predictions.parquet").unlink(), "no predictions.parquet"),
        (lambda run: (run / "comparison.json").write_text("{"), "damaged"),
        (lambda run: (run / "predictions.parquet").write_text("x"), "damaged"),
        (lambda run: (run / "comparison.json").write_text("[]"), "version"),
        (lambda run: (run / "comparison.json").write_text('{"version": 99}'), "version"),
        (lambda run: (run / "comparison.json").write_text('{"version": 2, "methods": []}'), "no method"),
    ],
)
def test_other_folders_are_refused(
    damage: Callable[[Path], object], message: str, run_folder: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    damage(run)
    with pytest.raises(ComparisonError, match=message):
        read_compared(run)


def test_numbers_that_are_null_are_missing(run_folder: Path, tmp_path: Path) -> None:
    run = shutil.copytree(run_folder, tmp_path / "run")
    summary = json.loads((run / "comparison.json").read_text())
    for entry in summary["methods"]:
        entry["mean"]["nll"] = None
    (run / "comparison.json").write_text(json.dumps(summary))
    assert read_compared(run).entries["mean.nll"].isna().all()


def test_a_run_says_its_data_set_level_and_encoder(run_folder: Path, tmp_path: Path) -> None:
    assert read_compared(run_folder).origin == {} and read_compared(run_folder).cards == {}
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    (run / "manifest.json").write_text('{"command": "mofgap compare c.yaml", "mofgap": "0.1.0"}')
    data = "{citation: Rosen 2021, level_of_theory: PBE}"
    (run / "config.yaml").write_text(f"comparison:\n  encoder: crystal-transformer\n  data: {data}\n")
    found = read_compared(run)
    assert found.origin["command"] == "mofgap compare c.yaml" and found.origin["level of theory"] == "PBE"
    assert found.origin["data set, to be cited"] == "Rosen 2021"
    assert "crystal-transformer" in found.cards["crystal-transformer"]
    for damaged in ("comparison: [", "comparison: 3", "-", "comparison: {data: x}"):
        (run / "config.yaml").write_text(damaged)
        assert read_compared(run).cards == {}
