"""What a comparison does again after a change or a kill, and what it leaves as it is."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mofgap.configuration import dump
from mofgap.gap.predictor import load_model
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import read
from mofgap.study.engine import comparison as stages
from mofgap.study.engine.config import RunConfig
from mofgap.study.judge import summary as summary_stage
from mofgap.study.judge.calibrated import calibrated
from mofgap.study.judge.scores import KEYS
from mofgap.study.members import members, predictions
from mofgap.study.methods.prediction import predicted
from mofgap.study.methods.training import trained


def changed(config: ComparisonConfig, section: str, **changes: Any) -> ComparisonConfig:
    return replace(config, **{section: replace(getattr(config, section), **changes)})


def test_a_finished_run_has_nothing_left_to_do(finished: Path, tiny_config: ComparisonConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert all(trained(tiny_config, finished, member.name) for member in members(tiny_config))
    stages.prepare(tiny_config, finished)
    stages.encode(tiny_config, finished)
    for member in members(tiny_config):
        stages.train(tiny_config, finished, member.name)
    for prediction in predictions(tiny_config):
        stages.predict(tiny_config, finished, prediction.name)
    for split in tiny_config.splits:
        stages.calibrate(tiny_config, finished, split)
    stages.compare(tiny_config, finished)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()} == before


def test_a_change_retrains_what_reads_it_and_nothing_else(
    finished: Path, tiny_config: ComparisonConfig
) -> None:
    def to_train(config: ComparisonConfig) -> set[str]:
        return {m.name for m in members(config) if not trained(config, finished, m.name)}

    balora = {m.name for m in members(tiny_config) if m.method == "balora"}
    assert to_train(changed(tiny_config, "recipe", kl_weight=0.3)) == balora
    assert to_train(changed(tiny_config, "recipe", dropout=0.3)) == {"split/dropout-seed0"}
    assert to_train(changed(tiny_config, "prediction", samples=(1, 2))) == set()
    assert to_train(changed(tiny_config, "judgement", n_draws=10)) == set()
    fewer = {m.name for m in members(tiny_config)}
    assert to_train(changed(tiny_config, "recipe", n_train=25)) == fewer


def test_more_draws_are_predicted_without_any_training(finished: Path, tiny_config: ComparisonConfig) -> None:
    more = changed(tiny_config, "prediction", samples=(1, 2, 4, 8, 16))
    missing = {p.name for p in predictions(more) if not predicted(more, finished, p.name)}
    assert missing == {
        "split/balora-seed0",
        "group/balora-seed0",
        "without-Co/balora-seed0",
        "split/dropout-seed0",
    }


def test_another_table_changes_the_members_whose_rows_change(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    """A relabelled test row changes no training; a relabelled training row those that learn from it."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    frame = pd.read_parquet(tiny_config.data.table)
    dataset = read(run)
    test = dataset.frame.structure_id.iloc[dataset.rows("split", "test")[0]]
    learnt = dataset.frame.structure_id.iloc[dataset.rows("split", "train", 36)[0]]
    for name, expected in ((test, False), (learnt, True)):
        table = tmp_path / "table.parquet"
        frame.assign(gap_ev=frame.gap_ev + (frame.structure_id == name)).to_parquet(table)
        config = changed(tiny_config, "data", table=table)
        stages.prepare(config, run)
        assert trained(config, run, "split/full-seed0") is not expected


def test_relatives_are_counted_anew_where_the_table_names_others(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    table = run / "dataset/table.parquet"
    frame = pd.read_parquet(table)
    (column,) = [name for name in frame if name.startswith("group:")]
    n_test = int((frame["part:split"] == "test").sum())
    # Scores and verdicts take half a minute, and are not what is asked here.
    monkeypatch.setattr(summary_stage, "scores", lambda found, n_bins: pd.DataFrame(columns=list(KEYS)))
    monkeypatch.setattr(summary_stage, "_summary", lambda config, splits, found, table: {"splits": splits})
    monkeypatch.setattr(summary_stage, "markdown", str)
    shared = []
    for group in ("all alike", None):
        frame.assign(**{column: group}).to_parquet(table)
        stages.compare(tiny_config, run)
        summary = json.loads((run / "comparison.json").read_text())
        shared.append(summary["splits"]["split"]["n_test_sharing_group"])
    assert shared == [n_test, 0]


def test_what_a_member_says_of_itself_follows_the_configuration(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    run, name = tmp_path / "run", "split/balora-seed0"
    shutil.copytree(finished, run)
    folder = run / "members" / name
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    history = (folder / "history.csv").stat().st_mtime_ns
    data = replace(tiny_config.data, level_of_theory="HSE06", citation="someone")
    config = changed(replace(tiny_config, data=data), "prediction", n_val=25)
    assert not trained(config, run, name)
    stages.train(config, run, name)
    assert trained(config, run, name)
    model = load_model(folder, "cpu")
    assert (model.about.level_of_theory, model.about.citation) == ("HSE06", "someone")
    assert model.calibration.record is not None and model.calibration.record.n_residuals == 25
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == before
    assert (folder / "history.csv").stat().st_mtime_ns == history


def test_a_kill_while_a_member_is_described_anew_costs_a_training_and_no_more(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    run, name = tmp_path / "run", "split/balora-seed0"
    shutil.copytree(finished, run)
    (run / "members" / name / "config.json").unlink()
    config = replace(tiny_config, data=replace(tiny_config.data, citation="someone"))
    stages.train(config, run, name)
    assert load_model(run / "members" / name, "cpu").about.citation == "someone"


def test_another_seed_calibrates_its_split_anew_and_no_other(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    record = run / "predictions/group/full-seed0.json"
    record.write_text(record.read_text().replace('"key": "', '"key": "x'))
    assert [split for split in tiny_config.splits if not calibrated(tiny_config, run, split)] == ["group"]


def test_a_killed_comparison_goes_on_to_the_same_result(
    tiny_config: ComparisonConfig, finished: Path, tmp_path: Path
) -> None:
    """Killed in the middle of a training; the trainings that were finished stay as they are."""
    few = replace(tiny_config.splits["group"].trainings, full=0, ensemble=0, lora=1)
    config = replace(
        changed(tiny_config, "recipe", epochs=30),
        splits={"split": replace(tiny_config.splits["split"], trainings=few)},
        ablations={},
    )
    path, run, straight = tmp_path / "config.yaml", tmp_path / "run", tmp_path / "straight"
    path.write_text(dump(RunConfig(name="tiny", comparison=config)))
    stages.prepare(config, run)
    stages.encode(config, run)
    stages.train(config, run, "split/lora-seed0")
    shutil.copytree(run, straight)
    kept = run / "members/split/lora-seed0/cost.json"
    before = kept.stat().st_mtime_ns

    command = [sys.executable, "-m", "mofgap", "compare", str(path), "-o", str(run)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = run / "members/split/balora-seed0/training/last.ckpt"
    while not checkpoint.exists():
        assert first.poll() is None
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(1)  # its worker sees that it is gone
    assert not (run / "members/split/balora-seed0/cost.json").exists()
    for folder in (run, straight):
        stages.train(config, folder, "split/balora-seed0")
        stages.predict(config, folder, "split/balora-seed0")
    assert kept.stat().st_mtime_ns == before
    file = "predictions/split/balora-seed0.parquet"
    resumed, whole = pd.read_parquet(run / file), pd.read_parquet(straight / file)
    pd.testing.assert_frame_equal(resumed, whole, rtol=1e-4, atol=1e-5)  # eV, and gaps may be near zero
