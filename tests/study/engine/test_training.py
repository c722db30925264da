"""From labels to a ranked table in one run, in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.configuration import ConfigurationError, dump, from_dict
from mofgap.gap.predictor import load_model
from mofgap.plain_words import settings_of
from mofgap.study.cli.config import SECTIONS
from mofgap.study.config import SplitConfig
from mofgap.study.engine.cluster import Executor
from mofgap.study.engine.config import RunCalibration, RunConfig, ShardedScreening
from mofgap.study.engine.folder import RunFolder
from mofgap.study.engine.plan import plan
from mofgap.study.engine.run import Run
from mofgap.training.job import LabelsConfig, ModelTraining
from mofgap.training.notes import notes_on_training

Do = Callable[[RunConfig, Path], list[str]]


@pytest.fixture(scope="module")
def config(
    tiny_table: Path,
    tiny_encoder_folder: Path,
    write_cifs: Callable[[Path, int], list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> RunConfig:
    cifs = tmp_path_factory.mktemp("cifs")
    write_cifs(cifs, 3)
    training = ModelTraining(  # type: ignore[call-arg]
        epochs=1, rank=2, head_hidden=16, blocks=(1,), batch_atoms=200, device="cpu",
        encoder=str(tiny_encoder_folder),
    )  # fmt: skip
    return RunConfig(
        "mine",
        data=LabelsConfig(tiny_table, level_of_theory="xTB"),
        training=training,
        screening=ShardedScreening(inputs=(str(cifs),)),  # type: ignore[call-arg]
    )


def test_a_name_like_that_of_the_splits_matters_to_trainings_alone(
    config: RunConfig, small: RunConfig, tiny_table: Path, tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    pd.read_parquet(tiny_table).rename(columns={"split": "Split"}).to_parquet(path)
    replace(config, calibration=RunCalibration(path)).check()  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match=r"'Split' would not be read as the split"):
        replace(config, data=LabelsConfig(path)).check()
    assert small.comparison is not None
    others = replace(small.comparison, data=replace(small.comparison.data, table=path))
    with pytest.raises(ConfigurationError, match=r"'Split' would not be read as the split"):
        replace(small, comparison=others).check()
    named = {"split": SplitConfig(column="Split")}
    replace(small, comparison=replace(others, splits=named)).check()


@pytest.fixture(scope="module")
def done(config: RunConfig, do_stages: Do, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    assert do_stages(config, run) == ["train", "screen/1-of-1", "gather", "report/screening"]
    return run


def test_the_table_is_that_of_the_model_that_the_run_trained(done: Path) -> None:
    table = pd.read_csv(done / "screening.csv")
    assert (
        table.gap_ev.notna().all() and set(table.model) == {"mine"} and set(table.level_of_theory) == {"xTB"}
    )
    assert load_model(done / "model", "cpu").about.name == "mine"
    assert not (done / "model" / "training").exists() and (done / "screening.html").exists()


def test_two_runs_write_the_same_bytes(config: RunConfig, done: Path, do_stages: Do, tmp_path: Path) -> None:
    do_stages(config, tmp_path)
    one, two = dict[str, str](), dict[str, str]()
    for run, found in ((done, one), (tmp_path, two)):
        for stage in plan(config, run):
            found.update(RunFolder(run).record(stage.name)["outputs"])
    assert [name for name in one if one[name] != two.get(name)] == []


@pytest.mark.parametrize("lost", [(), ("last.ckpt",), ("best.ckpt",), ("last.ckpt", "key.json")])
def test_a_training_stopped_after_its_model_was_written_goes_on(
    config: RunConfig,
    done: Path,
    do_stages: Do,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: tuple[str, ...],
) -> None:
    def stop(folder: Path, **_: object) -> None:
        for name in lost:
            (folder / name).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", stop)
        do_stages(config, tmp_path / "run")
    assert "train" in do_stages(config, tmp_path / "run")
    assert (tmp_path / "run/screening.csv").read_bytes() == (done / "screening.csv").read_bytes()


def test_what_changes_the_training_repeats_it_and_what_only_screens_does_not(
    config: RunConfig, done: Path
) -> None:
    assert not Run(config, done).reasons()
    assert config.screening is not None and config.training is not None
    screened = replace(config, screening=replace(config.screening, top=2))
    assert next(iter(Run(screened, done).reasons())) == "screen/1-of-1"
    trained = replace(config, training=replace(config.training, rank=3))
    assert next(iter(Run(trained, done).reasons())) == "train"


def test_another_name_or_citation_trains_nothing(
    config: RunConfig, done: Path, do_stages: Do, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(done, run)
    weights = (run / "model/model.safetensors").read_bytes()
    data = replace(config.data, citation="Someone,\n2026", level_of_theory="PBE0")  # type: ignore[type-var]
    other = replace(config, name="yours", data=data)
    assert "only described anew: name, citation, level_of_theory" in Run(other, run).reasons()["train"]
    lines: list[str] = []
    Run(other, run).run(Executor(1), lines.append)
    assert lines[0] == "[1/4] train: described anew"
    assert (run / "model/model.safetensors").read_bytes() == weights and not (run / "stale/train").exists()
    about, card = load_model(run / "model", "cpu").about, (run / "model/card.md").read_text()
    assert (about.name, about.level_of_theory, about.citation) == ("yours", "PBE0", "Someone,\n2026")
    assert card.startswith("# yours\n") and "labels: PBE0." in card and "\nSomeone,\n2026\n" in card
    again = replace(other, data=replace(data, citation="Nobody"))  # type: ignore[type-var]
    do_stages(again, run)
    assert "2026" not in (run / "model/card.md").read_text()
    assert set(pd.read_csv(run / "screening.csv").model) == {"yours"}


def test_the_level_decides_which_other_models_fit(config: RunConfig, done: Path) -> None:
    data = replace(config.data, level_of_theory="PBE0")  # type: ignore[type-var]
    assert config.training is not None
    both = replace(config.training, ensemble_with=("qmof-pbe",))
    for training, same in ((config.training, True), (both, False)):
        one, two = (replace(config, training=training, data=each) for each in (config.data, data))
        settings = [next(iter(plan(each, done))).settings for each in (one, two)]
        assert (settings[0] == settings[1]) == same


def test_a_run_says_what_train_and_calibrate_say(
    config: RunConfig, done: Path, tiny_table: Path, tmp_path: Path
) -> None:
    table = pd.read_parquet(tiny_table)
    swapped = table.split.replace({"train": "val", "val": "train"})
    table.assign(split=swapped).to_parquet(tmp_path / "swapped.parquet")
    again = replace(
        config,
        data=LabelsConfig(tmp_path / "swapped.parquet"),
        training=ModelTraining(from_model=str(done / "model"), epochs=0, device="cpu"),  # type: ignore[call-arg]
        calibration=RunCalibration(tiny_table),  # type: ignore[call-arg]
        screening=None,
    )
    lines: list[str] = []
    Run(again, tmp_path / "run").run(Executor(1), lines.append)
    known, others = lines[2], lines[4:]  # the first says what the model to start from keeps
    assert known.startswith("train: mine was trained on 70 of val: ")
    assert others[0].startswith("calibrate: mean absolute error") and "on 105 structures" in others[0]
    assert others[1] == "calibrate: left out 35 structures that the model was trained on"
    assert f"note: {known.removeprefix('train: ')}" in (tmp_path / "run/logs/train.log").read_text()
    alone = notes_on_training(tmp_path / "run/model", str(done / "model"))
    assert "25 labels are enough of structures that mine was not trained on" in alone[1]


def test_a_run_counts_what_is_left_out_of_a_training(
    config: RunConfig, done: Path, tiny_table: Path, tmp_path: Path
) -> None:
    table = pd.read_parquet(tiny_table)
    table.loc[table.index[:2], config.data.target] = None
    table.to_parquet(tmp_path / "some.parquet")
    training = ModelTraining(from_model=str(done / "model"), epochs=0, device="cpu")  # type: ignore[call-arg]
    data = replace(config.data, labels=tmp_path / "some.parquet")
    lines: list[str] = []
    Run(replace(config, data=data, training=training, screening=None), tmp_path / "run").run(
        Executor(1), lines.append
    )
    assert f"train: structures or labels left out: 2, see {tmp_path / 'run/logs/train.log'}" in lines


def test_a_calibration_on_other_structures_makes_the_model_that_screens(
    config: RunConfig, tiny_table: Path
) -> None:
    calibrated = replace(config, calibration=RunCalibration(tiny_table))
    stages = {stage.name: stage for stage in plan(calibrated, Path())}
    assert stages["calibrate"].after == ("train",) and stages["screen/1-of-1"].after == ("calibrate",)
    assert "calibrated/**" in stages["screen/1-of-1"].reads
    without = {stage.name: stage for stage in plan(config, Path())}  # else its table would stay
    assert stages["screen/1-of-1"].settings != without["screen/1-of-1"].settings


def test_a_plan_says_what_the_model_to_start_from_keeps(config: RunConfig, done: Path) -> None:
    training = ModelTraining(from_model=str(done / "model"), device="cpu")  # type: ignore[call-arg]
    lines = list(Run(replace(config, training=training), done.with_name("other")).described())
    assert (
        f"train: {done}/model keeps its own network: blocks [1], not [2, 3, 4]; rank 2, not 64" in lines[-2]
    )


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("data.target=gap", "data.target"),
        ("data.split_column=part", "data.split_column"),
        ("training.from_model=qmof-pb", "training.from_model"),
        ("training.encoder=transformer", "training.encoder"),
        ("training.blocks=[2, 7]", "training.blocks: the encoder has blocks 0 to 4, not 7"),
        ("training.modules=[quary]", "training.modules"),
    ],
)
def test_a_dry_run_finds_what_is_missing(config: RunConfig, tmp_path: Path, setting: str, key: str) -> None:
    plain = replace(config, training=None)
    (tmp_path / "run.yaml").write_text(dump(plain))
    done = CliRunner().invoke(app, ["run", str(tmp_path / "run.yaml"), "--dry-run", "--set", setting])
    assert done.exit_code == 1 and key in done.output


def test_a_run_trains_one_model_or_compares_methods_and_screens_with_its_own() -> None:
    data = {"labels": "t.parquet"}
    for others, key in (
        ({"comparison": {"data": {"table": "t.parquet"}}}, "comparison"),
        ({"screening": {"inputs": ["a"], "model": "qmof-pbe"}}, r"screening\.model"),
    ):
        with pytest.raises(ConfigurationError, match=key):
            from_dict(RunConfig, {"name": "x", "data": data} | others)
    with pytest.raises(ConfigurationError, match="data"):
        from_dict(RunConfig, {"name": "x", "training": {}, "screening": {"inputs": ["a"]}})


@pytest.mark.parametrize("section", [None, *SECTIONS])
def test_the_template_dry_runs_as_it_is_anywhere(
    section: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = CliRunner().invoke(app, ["config", *([section] if section else [])]).stdout
    Path("run.yaml").write_text(printed)
    done = CliRunner().invoke(app, ["run", "run.yaml", "--dry-run"])
    assert done.exit_code == 0 and "stages to run" in done.output, done.output
    assert section is None or f"\n{section}:\n" in printed


def test_the_whole_template_shows_the_settings_of_a_calibration_as_comments() -> None:
    assert set(SECTIONS) == settings_of(RunConfig).keys() - {"name", "report"}
    whole, filled = (CliRunner().invoke(app, ["config", *each]).stdout for each in ([], ["calibration"]))
    assert "\ncalibration: null\n#  # Parquet table" in whole
    uncommented = whole.replace("\ncalibration: null", "\ncalibration:").replace("\n#  ", "\n  ")
    assert uncommented.split("\nscreening:")[0] == filled.split("\nscreening:")[0]


@pytest.mark.parametrize("name", ["quickstart", "train"])
def test_a_shipped_configuration_runs_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["run", name, "--dry-run"]).exit_code == 0
    done = CliRunner().invoke(app, ["run", f"{name}x", "--dry-run"])
    assert done.exit_code == 1 and f"did you mean '{name}'" in done.output
