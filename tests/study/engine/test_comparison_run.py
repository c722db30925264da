from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import Tensor
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.configuration import ConfigurationError, dump
from mofgap.crystals.dataset import TableError
from mofgap.gap.folder import ModelError
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import fit_correction
from mofgap.gap.predictor import load_model
from mofgap.study.config import Ablation, ComparisonConfig
from mofgap.study.dataset import read
from mofgap.study.engine import comparison as stages
from mofgap.study.engine.config import RunConfig
from mofgap.study.judge.summary import GROUP, _methods
from mofgap.study.members import tabled
from mofgap.study.methods import laplace
from mofgap.study.methods.method import NEIGHBOURS
from mofgap.study.methods.prediction import predict
from mofgap.uncertainty import metrics

METHODS = {
    "mean",
    "composition",
    "scratch",
    "full",
    "lora",
    "lora-ensemble",
    "mc-dropout",
    "laplace",
    "balora-closed-form",
    "balora-weights",
    "balora-rows",
    "theirs",
}
CORRECTED = METHODS - {"mean", "composition", "balora-closed-form", "balora-rows", "theirs"} | {
    "balora-distance"
}


@pytest.fixture(scope="module")
def table(finished: Path) -> pd.DataFrame:
    return pd.read_parquet(finished / "comparison.parquet")


@pytest.fixture(scope="module")
def found(finished: Path) -> pd.DataFrame:
    return pd.read_parquet(finished / "predictions.parquet")


@pytest.fixture(scope="module")
def summary(finished: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((finished / "comparison.json").read_text())
    return content


def test_every_method_stands_on_the_first_split(table: pd.DataFrame) -> None:
    mine = table[(table.split == "split") & (table.variant == "")]
    assert set(mine.method) == METHODS | {method + NEIGHBOURS for method in CORRECTED}
    assert set(table[table.variant != ""].variant) == {"rank-1", "constant"}


def test_all_methods_are_tested_on_the_same_rows(found: pd.DataFrame, finished: Path) -> None:
    for split, frame in found[found.method != "theirs"].groupby("split"):
        for _, each in frame.groupby(["method", "variant", "seed", "n_samples"]):
            assert each.id.tolist() == frame.id.iloc[: len(each)].tolist()
        dataset = read(finished)
        trained = set(dataset.frame.structure_id.iloc[dataset.rows(str(split), "train")])
        assert not trained & set(frame.id)


def test_an_element_left_out_is_not_trained_on(finished: Path, found: pd.DataFrame) -> None:
    frame = read(finished).frame
    cobalt = set(frame.structure_id[frame.atomic_numbers.map(lambda z: 27 in z)])
    rows = found[found.split == "without-Co"]
    assert set(rows.id[rows.is_left_out]) <= cobalt
    assert not set(rows.id[~rows.is_left_out]) & cobalt
    assert not cobalt & set(frame.structure_id[frame["part:without-Co"].isin(["train", "val"])])


def test_draws_start_at_two_and_go_as_far_as_asked(found: pd.DataFrame) -> None:
    weights = found[(found.split == "split") & (found.method == "balora-weights") & (found.variant == "")]
    assert sorted(weights.n_samples[weights.seed == 0].unique()) == [0, 1, 2, 4, 8]
    assert sorted(weights.n_samples[weights.seed == 1].unique()) == [0, 1, 2, 4]
    known = weights.groupby("n_samples").epistemic_std_ev.apply(lambda std: std.notna().all())
    assert known.to_dict() == {0: False, 1: False, 2: True, 4: True, 8: True}


def test_an_ensemble_is_the_mean_of_its_members_and_their_spread(finished: Path) -> None:
    files = [finished / f"predictions/split/lora-seed{i}.parquet" for i in range(3)]
    members = [pd.read_parquet(path).set_index("method") for path in files]
    ensemble = pd.read_parquet(finished / "predictions/split/lora-ensemble-seed0.parquet")
    for suffix in ("", NEIGHBOURS):
        three = ensemble[(ensemble.n_samples == 3) & (ensemble.method == "lora-ensemble" + suffix)]
        gaps, own = (
            np.stack([m.loc["lora" + suffix, c] for m in members]) for c in ("gap_ev", "epistemic_std_ev")
        )
        assert len(np.unique(gaps[:, 0])) == 3
        assert np.isnan(own).all() if not suffix else (own > 0).all()
        variance = gaps.var(0, ddof=1) + (0 if not suffix else (own**2).mean(0))
        np.testing.assert_allclose(three.gap_ev, gaps.mean(0))
        np.testing.assert_allclose(three.epistemic_std_ev, np.sqrt(variance))


def test_only_the_lora_rows_that_were_asked_for_stand_in_the_table(table: pd.DataFrame) -> None:
    mine = table[(table.split == "split") & (table.variant == "")]
    assert set(mine.seed[mine.method == "lora"]) == {0, 1}
    assert set(mine.n_samples[mine.method == "lora-ensemble"]) == {1, 2, 3}


def test_scores_are_those_of_the_predictions(table: pd.DataFrame, found: pd.DataFrame) -> None:
    where = "split == 'split' and method == 'balora-closed-form' and variant == '' and seed == 1"
    rows = found.query(where).query("part == 'test'")
    (raw,) = table.query(where).query("spread == 'epistemic' and calibration == 'raw'").to_dict("records")
    assert raw["mae_ev"] == pytest.approx(metrics.mae(rows.gap_dft_ev, rows.gap_ev))
    expected = metrics.spearman(rows.gap_dft_ev, rows.gap_ev, rows.epistemic_std_ev)
    assert raw["spearman"] == pytest.approx(expected)
    (whole,) = (
        table.query(where).query("spread == 'total' and calibration == 'calibrated'").to_dict("records")
    )
    assert whole["coverage_90"] == pytest.approx(
        metrics.coverage(rows.gap_dft_ev, rows.lo_90_ev, rows.hi_90_ev)
    )


def test_published_predictions_have_errors_and_nothing_else(table: pd.DataFrame) -> None:
    (row,) = table[table.method == "theirs"].to_dict("records")
    assert row["mae_ev"] == pytest.approx(0.1)
    assert row["kind"] == "published"
    assert row["spread"] == "none"
    assert math.isnan(row["spearman"]) and math.isnan(row["n_trainable"])


def test_costs_stand_in_the_table(table: pd.DataFrame) -> None:
    mine = table[(table.split == "split") & (table.variant == "")].set_index(["method", "n_samples"])
    lora, ensemble = mine.loc[("lora", 0)].iloc[0], mine.loc[("lora-ensemble", 3)].iloc[0]
    assert ensemble.n_trainable == 3 * lora.n_trainable
    assert ensemble.forward_passes == 3
    assert mine.loc[("balora-closed-form", 0)].iloc[0].forward_passes == 3
    assert mine.loc[("balora-weights", 4)].iloc[0].forward_passes == 4
    passes = {("full", 0): 1, ("lora", 0): 3, ("lora-ensemble", 3): 9, ("balora-weights", 4): 7}
    for (method, n), expected in passes.items():
        assert mine.loc[(method + NEIGHBOURS, n)].iloc[0].forward_passes == expected
    assert mine.loc[("full", 0)].iloc[0].n_trainable > 3 * lora.n_trainable
    assert (mine.loc[["lora", "full", "balora-rows"]].n_train == 36).all()


def test_left_out_rows_are_told_apart_by_novelty(table: pd.DataFrame) -> None:
    far = table[table.split == "without-Co"]
    assert (far.n_left_out > 0).all()
    assert (far.auroc_novelty > 0.6).all()
    assert (far.auroc_novelty != far.auroc_distance).any()
    assert far[far.method == "balora-closed-form"].auroc_std.between(0, 1).all()
    assert table[table.split != "without-Co"].auroc_novelty.isna().all()


def test_a_constant_alpha_is_the_same_for_all_structures(finished: Path) -> None:
    model = load_model(finished / "members/split/constant-seed0").model
    other = load_model(finished / "members/split/balora-seed0").model
    import torch

    features = torch.randn(5, model.noise_network.feature_mean.shape[0])  # type: ignore[union-attr]
    assert model.noise_network(features).std(0).max() == 0  # type: ignore[misc]
    assert other.noise_network(features).std(0).min() > 0  # type: ignore[misc]


def test_each_claim_has_a_headline_verdict_on_both_splits(summary: dict[str, Any]) -> None:
    headline = [v for v in summary["verdicts"] if v["headline"]]
    assert sorted((v["claim"], v["split"]) for v in headline) == [
        (claim, split) for claim in "abcd" for split in ("group", "split")
    ]
    for v in summary["verdicts"]:
        assert v["verdict"] in ("supported", "not supported", "undecided")
        assert v["lo"] <= v["hi"]


def test_means_and_standard_errors_are_over_seeds(summary: dict[str, Any], table: pd.DataFrame) -> None:
    where = "split == 'split' and method == 'lora' and variant == ''"
    values = table.query(where).query("calibration == 'raw' and spread == 'total'").mae_ev
    (entry,) = [
        m
        for m in summary["methods"]
        if (m["split"], m["method"], m["calibration"], m["spread"]) == ("split", "lora", "raw", "total")
    ]
    assert entry["seeds"] == [0, 1]
    assert entry["mean"]["mae_ev"] == pytest.approx(values.mean())
    assert entry["standard_error"]["mae_ev"] == pytest.approx(values.std(ddof=1) / math.sqrt(2))


def test_definitions_say_their_bins_and_the_markdown_prints_them(
    summary: dict[str, Any], finished: Path
) -> None:
    assert "10 bins" in summary["definitions"]["ence"]
    text = (finished / "comparison.md").read_text()
    for line in ("## Verdicts", "## Ablations", "## Cost", "mean over 10 bins", "rank-1", "theirs"):
        assert line in text
    assert "| rank-1 | balora-weights@4 | lora-ensemble@3 | split | spearman, epistemic |" in text


def test_a_package_that_is_missing_is_told_before_the_work(
    tiny_config: ComparisonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(laplace, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"mofgap\[study\]"):
        stages.prepare(tiny_config, tmp_path)


@pytest.mark.parametrize(
    ("ablation", "told"),
    [
        (Ablation(blocks=(7,)), r"recipe\.blocks: .* 0 to 1, not 7"),
        (Ablation(modules=("query", "lin")), r"recipe\.modules: .* query, key, .*, not lin"),
    ],
)
def test_an_ablation_of_what_the_encoder_lacks_is_told_before_anything_is_trained(
    tiny_config: ComparisonConfig, tmp_path: Path, ablation: Ablation, told: str
) -> None:
    config = replace(tiny_config, ablations={"high": ablation})
    with pytest.raises(ConfigurationError, match=rf"ablations\.high: {told}"):
        stages.prepare(config, tmp_path)


def test_a_damaged_encoder_is_told(tiny_config: ComparisonConfig, tmp_path: Path) -> None:
    shutil.copytree(tiny_config.encoder, tmp_path / "encoder")
    described = tmp_path / "encoder/encoder.json"
    described.write_text(described.read_text()[:100])
    with pytest.raises(ModelError, match=r"encoder\.json is damaged"):
        stages.prepare(replace(tiny_config, encoder=str(tmp_path / "encoder")), tmp_path)


def test_too_few_training_structures_are_told_before_anything_is_trained(
    tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    config = replace(tiny_config, recipe=replace(tiny_config.recipe, n_train=99))
    more = replace(tiny_config, recipe=replace(tiny_config.recipe, n_train=None))
    for each in (config, replace(more, ablations={"more": Ablation(n_train=99)})):
        with pytest.raises(TableError, match=r"table\.parquet: .*99"):
            stages.prepare(each, tmp_path)


def test_predictions_are_raw_and_calibrated_apart(
    finished: Path, found: pd.DataFrame, tiny_config: ComparisonConfig
) -> None:
    """Calibration adds columns, changes none, and leaves out what stands in no table."""
    added = ["gap_std_ev", "lo_90_ev", "hi_90_ev", "novelty", "novelty_distance"]
    for split in tiny_config.splits:
        wanted = [finished / f"predictions/{p.name}.parquet" for p in tabled(tiny_config, split)]
        raw = pd.concat([pd.read_parquet(path) for path in wanted], ignore_index=True)
        table = pd.read_parquet(finished / f"calibrated/{split}.parquet")
        assert not set(added) & set(raw)
        pd.testing.assert_frame_equal(table.drop(columns=added), raw)
        pd.testing.assert_frame_equal(found[found.split == split].reset_index(drop=True), table)
    assert "split/lora-seed2" not in {p.name for p in tabled(tiny_config, "split")}


def test_a_standard_error_is_of_the_seeds_that_have_the_number() -> None:
    table = pd.DataFrame(
        {"split": "s", "seed": [0, 1, 2], "nll": [1.0, 2.0, math.nan], "mae_ev": [1.0, 2.0, 3.0]}
    )
    table = table.assign(**dict.fromkeys(set(GROUP) - {"split"}, ""))
    (entry,) = _methods(table)
    assert entry["standard_error"] == {"nll": pytest.approx(0.5), "mae_ev": pytest.approx(3**-0.5)}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("comparison.recipe.epoch=3", "comparison.recipe.epoch: unknown key; did you mean 'epochs'?"),
        ("comparison.data.table=nowhere.parquet", "nowhere.parquet"),
        ("comparison.encoder=crystal-transformr", "did you mean 'crystal-transformer'?"),
        ("comparison.recipe.epochs=0", "must be at least 1"),
    ],
)
def test_wrong_settings_end_the_command(
    tiny_config: ComparisonConfig, tmp_path: Path, setting: str, message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump(RunConfig(name="tiny", comparison=tiny_config)))
    result = CliRunner().invoke(app, ["compare", str(path), "-o", str(tmp_path / "run"), "--set", setting])
    assert result.exit_code == 1
    assert message in result.output


def test_only_training_structures_correct_a_gap(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, labels = tmp_path / "run", []
    shutil.copytree(finished, run)
    (run / "predictions/split/lora-seed0.parquet").unlink()

    def spied(model: GapModel, batches: Iterable[Any], gap_ev: Tensor) -> None:
        labels.extend(gap_ev.tolist())
        fit_correction(model, batches, gap_ev)

    monkeypatch.setattr("mofgap.gap.posterior.fit_correction", spied)
    predict(tiny_config, run, "split/lora-seed0")
    data = read(run)
    train = data.rows("split", "train", tiny_config.recipe.n_train)
    assert labels == data.gap_ev[train].tolist()
    predicted = pd.read_parquet(run / "predictions/split/lora-seed0.parquet")
    assert not set(predicted.id) & set(data.frame.structure_id[train])
