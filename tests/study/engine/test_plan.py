from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mofgap.configuration import ConfigurationError, dump, from_dict, load, overridden, to_dict
from mofgap.study.engine import run
from mofgap.study.engine.config import RunConfig, RunPretraining, ShardedScreening
from mofgap.study.engine.folder import RunError, RunFolder, fingerprint
from mofgap.study.engine.plan import plan, stage_named
from mofgap.study.engine.run import Run
from mofgap.study.engine.stage import _inputs

CONFIGS = Path(__file__).parents[3] / "configs"


def changed(config: RunConfig, *overrides: str) -> set[str]:
    """Names of the stages of which something else is asked after a change."""
    other = from_dict(RunConfig, overridden(to_dict(config), overrides))
    before = {stage.name: stage.request() for stage in plan(config, Path("/run"))}
    return {s.name for s in plan(other, Path("/run")) if s.request() != before.get(s.name)}


def test_every_stage_comes_after_those_it_needs(comparison: RunConfig) -> None:
    both = replace(comparison, screening=ShardedScreening(inputs=("a.cif",), shards=3))
    seen: list[str] = []
    for stage in plan(both, Path("/run")):
        assert set(stage.after) <= set(seen)
        seen.append(stage.name)
    assert len(seen) == len(set(seen))
    assert {"prepare", "encode", "train/split/balora-seed0", "predict/split/lora-ensemble-seed0"} < set(seen)
    assert {"calibrate/split", "compare", "report", "screen/3-of-3", "gather", "report/screening"} < set(seen)


@pytest.mark.parametrize(
    ("override", "stale"),
    [
        ("comparison.judgement.level=0.9", {"compare"}),
        ("comparison.recipe.kl_weight=0.5", {"train/split/balora-seed0"}),
        ("comparison.recipe.dropout=0.2", set()),  # no such training
        ("comparison.splits.split.trainings.ensemble=1", {"predict/split/lora-ensemble-seed0", "compare"}),
        ("comparison.prediction.samples=[1, 2]", {"predict/split/balora-seed0"}),
        ("resources.train.memory_mb=9", set()),
        ("name=y", set()),
    ],
)
def test_a_setting_concerns_the_stages_that_read_it(
    comparison: RunConfig, override: str, stale: set[str]
) -> None:
    assert changed(comparison, override) == stale


def test_one_more_seed_leaves_the_others_alone(comparison: RunConfig) -> None:
    found = changed(comparison, "comparison.splits.split.trainings.balora=2")
    assert found == {"train/split/balora-seed1", "predict/split/balora-seed1", "calibrate/split", "compare"}


def test_the_rows_that_are_trained_on_concern_every_prediction(comparison: RunConfig) -> None:
    """An ablation may have had as many already, and then the dataset stays."""
    found = changed(comparison, "comparison.recipe.n_train=20")
    assert {f"predict/split/{name}-seed0" for name in ("mean", "composition", "balora")} < found
    assert {"calibrate/split", "compare"} < found


def test_a_run_without_its_screening_is_the_comparison(comparison: RunConfig) -> None:
    both = replace(comparison, screening=ShardedScreening(inputs=("a.cif",)))
    alone = [stage.name for stage in plan(comparison, Path("/run"))]
    assert [stage.name for stage in plan(both, Path("/run"), screening=False)] == alone


def test_stages_can_be_given_to_another_process(comparison: RunConfig) -> None:
    both = replace(comparison, screening=ShardedScreening(inputs=("a.cif",), shards=2))
    stages = plan(both, Path("/run"))
    names = [stage.name for stage in pickle.loads(pickle.dumps(stages))]
    assert names == [stage.name for stage in stages]


@pytest.mark.parametrize(
    "setting", ["data.citation=someone", "data.level_of_theory=PBE", "prediction.n_val=70"]
)
def test_what_a_model_folder_says_is_written_anew_and_nothing_trained(
    comparison: RunConfig, setting: str
) -> None:
    other = from_dict(RunConfig, overridden(to_dict(comparison), [f"comparison.{setting}"]))
    before, after = (
        [s.request() for s in plan(config, Path("/run")) if s.rule == "train"]
        for config in (comparison, other)
    )
    assert len(before) == len(after) == 3
    for old, new in zip(before, after, strict=True):
        assert old["describes"] != new["describes"] and old["settings"] == new["settings"]


@pytest.mark.parametrize("setting", ["citation=someone", "level_of_theory=PBE"])
def test_what_the_page_says_is_written_anew(comparison: RunConfig, setting: str) -> None:
    assert "report" in changed(replace(comparison, report=True), f"comparison.data.{setting}")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (["comparison.splits.split.column=fold"], "comparison.splits.split.column: .*no column 'fold'"),
        (["comparison.data.table=gone.parquet"], "comparison.data.table: gone.parquet: no such file"),
        (
            ["pretraining.table=t.parquet", "pretraining.blocks=2", "comparison.recipe.blocks=[1, 2]"],
            "comparison.recipe.blocks: the encoder of pretraining has blocks 0 to 1, not 2",
        ),
        (
            ["pretraining.table=t.parquet", "pretraining.blocks=2", "comparison.ablations.high.blocks=[7]"],
            "comparison.ablations.high.blocks: the encoder of pretraining has blocks 0 to 1, not 7",
        ),
        (
            ["comparison.recipe.blocks=[1, 2]"],
            "comparison.recipe.blocks: the encoder has blocks 0 to 1, not 2",
        ),
    ],
)
def test_what_would_fail_after_other_stages_is_told_at_once(
    small: RunConfig, settings: list[str], key: str
) -> None:
    other = from_dict(RunConfig, overridden(to_dict(small), settings))
    with pytest.raises(ConfigurationError, match=key):
        other.check()


def test_one_seed_less_leaves_the_tables(comparison: RunConfig) -> None:
    found = changed(comparison, "comparison.splits.split.trainings.balora=0")
    assert found == {"calibrate/split", "compare"}


def test_more_epochs_concern_every_training(comparison: RunConfig) -> None:
    found = changed(comparison, "comparison.recipe.epochs=3")
    assert found == {f"train/split/{name}" for name in ("lora-seed0", "lora-seed1", "balora-seed0")}


def test_rows_are_prepared_anew_where_another_split_needs_more(comparison: RunConfig) -> None:
    splits = {"b": {"kind": "grouped", "trainings": {"full": 0, "scratch": 0}}}
    wide = overridden(to_dict(comparison), ["comparison.recipe.n_train=20"])
    wide["comparison"]["splits"] |= splits
    large = {"method": "balora", "n_train": 30}
    settings = []
    for split in ("split", "b"):
        wide["comparison"]["ablations"] = {"large": large | {"split": split}}
        stages = plan(from_dict(RunConfig, wide), Path("/run"))
        settings.append(next(stage.settings for stage in stages if stage.rule == "prepare"))
    assert settings[0] != settings[1]


def test_threads_are_part_of_what_is_asked(comparison: RunConfig) -> None:
    assert changed(comparison, "resources.train.cpus=2") == changed(comparison, "comparison.recipe.epochs=3")


def test_predictions_are_of_the_weights_that_lie_there(comparison: RunConfig, tmp_path: Path) -> None:
    """A stage's key holds the weights, which threads and devices move too."""
    folder = RunFolder(tmp_path)
    stages = plan(comparison, tmp_path)
    weights = tmp_path / "members/split/balora-seed0/model.safetensors"
    weights.parent.mkdir(parents=True)
    stage = replace(stage_named(stages, "predict/split/balora-seed0"), content=lambda config, run: "key")
    keys = []
    for content in ("one", "two"):
        weights.write_text(content)
        outputs = {str(weights.relative_to(tmp_path)): fingerprint(str(weights))}
        folder.write_record("train/split/balora-seed0", {"outputs": outputs})
        keys.append(_inputs(stage, comparison, folder))
    assert keys[0] != keys[1] and set(keys[0]) == {"content", str(weights.relative_to(tmp_path))}


def test_an_input_of_many_stages_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.cif").write_text("data_a")
    asked = ShardedScreening(inputs=(str(tmp_path / "a.cif"),), shards=20, level="pbe")
    seen: list[str] = []
    monkeypatch.setattr(run, "fingerprint", lambda name: seen.append(name) or fingerprint(name))
    Run(RunConfig("x", screening=asked), tmp_path / "run").reasons()
    assert len(seen) == len(set(seen)) == 2


def test_a_renamed_input_is_another_and_a_renamed_table_is_not(tmp_path: Path) -> None:
    before = RunConfig("x", screening=ShardedScreening(inputs=("a.cif",)))

    def settings(**changes: Any) -> Any:
        assert before.screening is not None
        stages = plan(replace(before, screening=replace(before.screening, **changes)), Path("/run"))
        return [(s.settings, s.writes) for s in stages if s.rule == "screen"]

    assert settings(inputs=("b.cif",)) != settings()
    assert settings(table="other.csv") == settings()


def test_an_encoder_of_the_run_is_trained_first(comparison: RunConfig) -> None:
    config = replace(comparison, pretraining=RunPretraining(table=comparison.comparison.data.table))  # type: ignore[union-attr]
    stages = plan(config, Path("/run"))
    assert stages[0].name == "pretrain"
    assert "pretrain" in stage_named(stages, "prepare").after
    assert config.comparison_in(Path("/run")).encoder == "/run/pretraining"


def test_no_such_stage(comparison: RunConfig) -> None:
    with pytest.raises(RunError, match="no stage 'x'; there are prepare, encode"):
        stage_named(plan(comparison, Path("/run")), "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x"}, "nothing to do"),
        ({"name": "a/b", "screening": {"inputs": ["a"]}}, "name: expected letters"),
        ({"name": "x", "screening": {"inputs": []}}, "screening.inputs: name at least one"),
        ({"name": "x", "screening": {"inputs": ["a"], "rank_by": "window"}}, "window needs a window"),
        ({"name": "x", "screening": {"inputs": ["a"], "window": [3, 1]}}, "needs its lower end first"),
        (
            {"name": "x", "screening": {"inputs": ["a"], "level": "pbe", "model": "m"}},
            "screening.level: level pbe names the shipped models",
        ),
        ({"name": "x", "screening": {"inputs": ["a"], "table": "t.xls"}}, "table: expected NAME.csv"),
        (
            {"name": "x", "screening": {"inputs": ["a"], "table": "metrics.json"}},
            "what another file of the run",
        ),
        (
            {"name": "x", "screening": {"inputs": ["a"]}, "pretraining": {"table": "t.parquet"}},
            "there is no comparison",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        from_dict(RunConfig, values)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path, tmp_path: Path) -> None:
    config = load(RunConfig, path)
    assert config.name == path.stem
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(RunConfig, tmp_path / "again.yaml") == config
