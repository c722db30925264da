"""What a comparison does again after a change or a kill, and what it leaves as it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint

from mofgap.gap.predictor import load_model
from mofgap.shipped import LAST
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import read
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.run import Run
from mofgap.study.judge import summary as summary_stage
from mofgap.study.judge.scores import KEYS
from mofgap.study.members import members
from mofgap.training import recipe
from mofgap.training.finetune import finetune

DoStages = Callable[[RunConfig, Path], list[str]]
TRAINING = "train/split/lora-seed0"


def changed(config: ComparisonConfig, section: str, **changes: Any) -> ComparisonConfig:
    return replace(config, **{section: replace(getattr(config, section), **changes)})


def reasons(config: ComparisonConfig, run: Path) -> dict[str, str]:
    return Run(RunConfig("tiny", comparison=config, report=False), run).reasons()


def stale(config: ComparisonConfig, run: Path, rule: str) -> set[str]:
    """Items of a rule of which something else is wanted now."""
    found = {name for name, reason in reasons(config, run).items() if not reason.startswith("if ")}
    return {name.partition("/")[2] for name in found if name.startswith(f"{rule}/")}


def test_a_finished_run_has_nothing_left_to_do(finished: Path, tiny_config: ComparisonConfig) -> None:
    assert reasons(tiny_config, finished) == {}


def test_a_change_retrains_what_reads_it_and_nothing_else(
    finished: Path, tiny_config: ComparisonConfig
) -> None:
    def to_train(section: str, **changes: Any) -> set[str]:
        return stale(changed(tiny_config, section, **changes), finished, "train")

    balora = {m.name for m in members(tiny_config) if m.method == "balora"}
    assert to_train("recipe", kl_weight=0.3) == balora
    assert to_train("recipe", dropout=0.3) == {"split/dropout-seed0"}
    assert to_train("prediction", samples=(1, 2)) == set()
    assert to_train("judgement", n_draws=10) == set()
    assert to_train("recipe", n_train=25) == {m.name for m in members(tiny_config)}


def test_more_draws_are_predicted_without_any_training(finished: Path, tiny_config: ComparisonConfig) -> None:
    more = changed(tiny_config, "prediction", samples=(1, 2, 4, 8, 16))
    assert stale(more, finished, "train") == set()
    assert stale(more, finished, "predict") == {
        "split/balora-seed0",
        "group/balora-seed0",
        "without-Co/balora-seed0",
        "split/dropout-seed0",
    }


def test_another_table_changes_the_trainings_whose_rows_change(
    small: RunConfig, do_stages: DoStages, tmp_path: Path
) -> None:
    """A relabelled test row changes no training; a relabelled training row those that learn from it."""
    run, table = tmp_path / "run", tmp_path / "table.parquet"
    assert small.comparison is not None
    frame = pd.read_parquet(small.comparison.data.table)
    config = replace(small, comparison=changed(small.comparison, "data", table=table))
    frame.to_parquet(table)
    do_stages(config, run)
    dataset = read(run)
    test = dataset.frame.structure_id.iloc[dataset.rows("split", "test")[0]]
    trained = dataset.frame.structure_id.iloc[dataset.rows("split", "train", 36)[0]]
    for name, expected in ((test, False), (trained, True)):
        frame.assign(gap_ev=frame.gap_ev + (frame.structure_id == name)).to_parquet(table)
        assert (TRAINING in do_stages(config, run)) is expected
        assert bool(list(run.glob(f"stale/{TRAINING}/*"))) is expected


def test_relatives_are_counted_anew_where_the_table_names_others(
    finished: Path, tiny_config: ComparisonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    table = run / "dataset/table.parquet"
    frame = pd.read_parquet(table)
    (column,) = [name for name in frame if name.startswith("group:")]
    n_test = int((frame["part:split"] == "test").sum())
    # Scores and verdicts take half a minute, and are not what is tested here.
    monkeypatch.setattr(summary_stage, "scores", lambda found, n_bins: pd.DataFrame(columns=list(KEYS)))
    monkeypatch.setattr(summary_stage, "_summary", lambda config, splits, found, table: {"splits": splits})
    monkeypatch.setattr(summary_stage, "markdown", str)
    shared = []
    for group in ("all alike", frame.structure_id):
        frame.assign(**{column: group}).to_parquet(table)
        summary_stage.summarise(tiny_config, run)
        summary = json.loads((run / "comparison.json").read_text())
        shared.append(summary["splits"]["split"]["n_test_sharing_group"])
    assert shared == [n_test, 0]


def test_what_a_member_says_of_itself_follows_the_configuration(
    small: RunConfig, do_stages: DoStages, tmp_path: Path
) -> None:
    do_stages(small, tmp_path)
    folder = tmp_path / "members/split/lora-seed0"
    before = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    kept = {name: (folder / name).stat().st_mtime_ns for name in ("history.csv", "cost.json")}
    assert small.comparison is not None
    said = changed(small.comparison, "data", level_of_theory="HSE06", citation="someone")
    config = replace(small, comparison=changed(said, "prediction", n_val=25))
    assert TRAINING in do_stages(config, tmp_path)
    model = load_model(folder, "cpu")
    assert (model.about.level_of_theory, model.about.citation) == ("HSE06", "someone")
    assert model.calibration.record is not None and model.calibration.record.n_residuals == 25
    assert {path.name: path.read_bytes() for path in folder.glob("*.safetensors")} == before
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert do_stages(config, tmp_path) == []


def test_one_more_training_calibrates_its_split_anew_and_no_other(
    finished: Path, tiny_config: ComparisonConfig
) -> None:
    group = tiny_config.splits["group"]
    more = replace(group, trainings=replace(group.trainings, lora=2))
    config = replace(tiny_config, splits=tiny_config.splits | {"group": more})
    assert stale(config, finished, "calibrate") == {"group"}


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(
    small: RunConfig, do_stages: DoStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once its first pass is on disk; what it goes on from is that pass."""
    straight, run = tmp_path / "straight", tmp_path / "run"
    save = ModelCheckpoint.on_train_epoch_end

    def killed(self: Any, trainer: Any, module: Any) -> None:
        save(self, trainer, module)
        if (run / "members/split/lora-seed0/training" / LAST).exists():
            raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(ModelCheckpoint, "on_train_epoch_end", killed)
        do_stages(small, run)
    assert Run(small, run).reasons()[TRAINING] == "was cut off"
    resumed: list[bool] = []

    def spied(*arguments: Any, **options: Any) -> Any:
        resumed.append(options["resume"])
        return finetune(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(recipe, "finetune", spied)
        do_stages(small, run)
    assert resumed == [True] and not (run / "stale").exists()
    do_stages(small, straight)
    for path in straight.glob("members/**/*.safetensors"):
        assert path.read_bytes() == (run / path.relative_to(straight)).read_bytes()
    table = "predictions.parquet"
    assert (run / table).read_bytes() == (straight / table).read_bytes()
