"""A setting of a training is declared once: options, keys of a run and their documentation come from it."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.cli import pretrain, train, training_run
from mofgap.configuration import ConfigurationError, from_dict
from mofgap.encoders.registry import encoder_config
from mofgap.plain_words import default_of, meaning, settings_of
from mofgap.shipped import shipped_folder
from mofgap.study.config import Recipe
from mofgap.study.engine.config import RunConfig
from mofgap.training.config import (
    FROM_A_MODEL,
    NETWORK,
    ComputeConfig,
    FinetuneConfig,
    PretrainingConfig,
    TrainingConfig,
)
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.job import LabelsConfig, ModelTraining, TrainingJob
from mofgap.training.network import network

COMMANDS = [(train.train, LabelsConfig), (train.train, ModelTraining)]
COMMANDS += [(pretrain.pretrain, PretrainingConfig), (pretrain.pretrain, ComputeConfig)]
DATA = {"data": {"table": "t.parquet"}}


@pytest.mark.parametrize(("command", "schema"), COMMANDS)
def test_each_setting_is_an_option_of_the_same_name_default_and_help(
    command: Callable[..., None], schema: type
) -> None:
    options = inspect.signature(command).parameters
    for name, field in settings_of(schema).items():
        assert options[name].default == default_of(field), name
        assert get_args(options[name].annotation)[1].help == meaning(field) and field.description


def test_a_recipe_has_the_settings_of_a_training_but_for_what_a_comparison_decides() -> None:
    decided = {"method", "seed", "unfreeze", "neighbour_correction"}
    assert set(settings_of(Recipe)) == set(settings_of(TrainingConfig)) - decided | {"start", "n_train"}
    same = settings_of(TrainingConfig).keys() - decided - {"dropout"}
    recipe, config = Recipe(), TrainingConfig()
    assert all(getattr(recipe, name) == getattr(config, name) for name in same)
    wanted = {**{name: getattr(recipe, name) for name in same}, "method": "full", "seed": 3}
    assert Recipe().training("full", seed=3) == TrainingConfig(**wanted, neighbour_correction=False)
    for name in decided:
        with pytest.raises(ConfigurationError, match=rf"recipe\.{name}: unknown key"):
            from_dict(RunConfig, {"name": "x", "comparison": DATA | {"recipe": {name: "lora"}}})


def test_what_a_model_is_made_of_is_apart_from_how_its_weights_move() -> None:
    assert settings_of(TrainingConfig).keys() - settings_of(FinetuneConfig).keys() == set(NETWORK)
    assert TrainingConfig(rank=3, epochs=2).finetuning == FinetuneConfig(epochs=2)


def test_an_unknown_key_is_told_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"^learn_rate: unknown key; did you mean 'learning_rate'"):
        from_dict(TrainingConfig, {"learn_rate": 1e-3})
    with pytest.raises(ConfigurationError, match=r"pretraining\.epoch: unknown key; did you mean 'epochs'"):
        from_dict(RunConfig, {"name": "x", "comparison": DATA, "pretraining": {"table": "a", "epoch": 2}})


@pytest.mark.parametrize(
    ("verb", "option", "value"),
    [
        ("train", "--rank", "0"),
        ("train", "--blocks", ","),
        ("train", "--blocks", "two"),
        ("train", "--prior-rate", "1"),
        ("pretrain", "--architecture", "schnett"),
        ("pretrain", "--setting", "n_heads"),
    ],
)
def test_wrong_usage_names_the_option(verb: str, option: str, value: str) -> None:
    done = CliRunner().invoke(app, [verb, "t.parquet", option, value], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert option in done.output or "KEY=VALUE" in done.output


@pytest.fixture
def asked(asked_job: Callable[..., TrainingJob], tmp_path: Path) -> Callable[..., TrainingConfig]:
    """How a command line asks a model to be trained."""
    pd.DataFrame({"gap_ev": [1.0]}).to_parquet(tmp_path / "t.parquet")
    return lambda *options: asked_job(str(tmp_path / "t.parquet"), *options).training.settings


@pytest.fixture
def asked_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., TrainingJob]:
    """What a command line asks to be trained, without training it."""
    found: list[TrainingJob] = []

    def execute(job: TrainingJob, output: Path, *, resume: bool) -> None:
        found.append(job)

    def go(*options: str) -> TrainingJob:
        done = CliRunner().invoke(app, ["train", *options, "-o", str(tmp_path / "m")])
        assert done.exit_code == 0, done.output
        return found.pop()

    monkeypatch.setattr(training_run, "execute", execute)
    return go


def test_from_a_model_other_defaults_hold(asked: Callable[..., TrainingConfig]) -> None:
    assert asked() == TrainingConfig()
    assert asked("--from", "qmof-pbe") == TrainingConfig(**FROM_A_MODEL)
    # What is given holds, the usual default included.
    given = asked("--from", "qmof-pbe", "--learning-rate", "4e-4", "--kl-weight", "1")
    assert given == TrainingConfig()
    for name, value in FROM_A_MODEL.items():
        assert f"{value:g}" in meaning(settings_of(ModelTraining)[name])


def test_lists_are_written_with_commas(asked: Callable[..., TrainingConfig]) -> None:
    assert asked("--blocks", "0, 4", "--modules", "query,out").blocks == (0, 4)
    assert asked("--modules", "query,out").modules == ("query", "out")


@pytest.mark.parametrize("option", ["--rank", "--method", "--encoder"])
def test_what_a_model_brings_itself_is_refused(option: str, tmp_path: Path) -> None:
    value = {"--rank": "8", "--method": "lora"}.get(option, "crystal-transformer")
    arguments = ["train", "t.parquet", "--from", "qmof-pbe", "-o", str(tmp_path / "m"), option, value]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 2 and option in done.output and "leave it out" in done.output


def test_a_block_that_the_encoder_lacks_is_wrong_usage(tmp_path: Path) -> None:
    row = {"structure_id": "a", "cell_angstrom": np.eye(3).ravel() * 9, "atomic_numbers": [6]}
    rows = [row | {"frac_coords": [0.0] * 3, "gap_ev": 1.0, "split": split} for split in ("train", "val")]
    pd.DataFrame(rows).assign(structure_id=["a", "b"]).to_parquet(tmp_path / "t.parquet")
    arguments = ["train", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "m"), "--blocks", "7"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 2 and "--blocks" in done.output and "0 to 4" in done.output


def test_a_setting_without_effect_is_refused() -> None:
    ModelTraining(method="lora", dropout=0.3).check()
    with pytest.raises(ConfigurationError, match="balora trains without dropout"):
        ModelTraining(dropout=0.3).check()
    with pytest.raises(ConfigurationError, match="balora trains without dropout"):
        ModelTraining(from_model="qmof-pbe", dropout=0.3).check()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trainng: {epochs: 1}", "trainng: unknown section; did you mean training?"),
        ("Training: {epochs: 1}", "Training: unknown section; did you mean training?"),
        ("training: fast", "training: expected keys with values"),
        ("data: [1]", "data: expected keys with values"),
    ],
)
def test_a_section_that_is_none_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    done = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "c.yaml")], env={"COLUMNS": "300"})
    assert done.exit_code == 2 and words in done.output


def test_other_sections_of_a_run_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("pretraining: {epochs: 1}\nscreening: {top: 3}\n")
    done = CliRunner().invoke(app, ["train", "--config", str(tmp_path / "c.yaml")], env={"COLUMNS": "300"})
    assert done.exit_code == 2 and "LABELS: must be given" in done.output


def test_several_nodes_need_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "t.parquet").touch()
    arguments = ["train", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "m"), "--nodes", "2"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 2 and "--nodes" in done.output and "start it by srun" in done.output


def test_full_training_needs_no_blocks_to_adapt() -> None:
    found = find_encoder("crystal-transformer")
    small = replace(found, config=encoder_config(found.architecture, {"n_blocks": 2}))
    assert network(TrainingConfig(method="full"), small).encoder_settings["n_blocks"] == 2
    with pytest.raises(ConfigurationError, match="blocks"):
        network(TrainingConfig(method="lora"), small)


def test_an_encoder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").touch()
    shutil.copytree(shipped_folder("models") / "crystal-transformer", tmp_path / "mine")
    (tmp_path / "mine/metrics.csv").touch()
    arguments = ["pretrain", str(tmp_path / "t.parquet"), "-o", str(tmp_path / "mine")]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 2 and "mine holds an encoder whose training is gone" in done.output


def test_the_settings_are_light_to_import() -> None:
    code = "import sys, mofgap.training.config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "lightning", "pandas", "numpy"} & set(done.stdout.split())


def test_the_training_of_a_run_has_the_settings_of_the_command() -> None:
    both = settings_of(TrainingConfig).keys() | settings_of(ComputeConfig).keys()
    assert settings_of(ModelTraining).keys() == both | {"from_model", "ensemble_with", "encoder"}


def test_a_training_is_taken_from_the_file_of_a_run_and_options_go_before(
    asked_job: Callable[..., TrainingJob], tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    pd.DataFrame({"gap": [1.0]}).to_parquet(tmp_path / "t.parquet")
    path.write_text(
        f"name: x\ndata: {{labels: {tmp_path}/t.parquet, target: gap}}\n"
        "training: {rank: 8, epochs: 3, blocks: [1]}\nscreening: {inputs: [a]}\n"
    )
    job = asked_job("--config", str(path), "--epochs", "7")
    assert job.training.settings == TrainingConfig(rank=8, epochs=7, blocks=(1,))
    assert (job.data.labels, job.data.target) == (tmp_path / "t.parquet", "gap")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["none.csv", "cifs"], "none.csv"),
        (["labels.csv"], "CIFS"),
        (["labels.csv", "cifs", "--target", "gap_eV"], "did you mean 'gap_ev'"),
        (["labels.csv", "cifs", "--encoder", "transformer"], "--encoder"),
        (["labels.csv", "cifs", "--from", "qmof-pb"], "--from"),
        (["labels.txt", "cifs"], "LABELS"),
        (["--epochs", "2"], "LABELS"),
    ],
)
def test_paths_columns_and_models_are_looked_for_before_torch_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    (tmp_path / "labels.csv").write_text("name,gap_ev\na,1\n")
    (tmp_path / "cifs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import fails
    monkeypatch.delitem(sys.modules, "mofgap.cli.training_run", raising=False)
    done = CliRunner().invoke(app, ["train", *arguments, "-o", "m"], env={"COLUMNS": "300"})
    assert done.exit_code == 2 and named in done.output, done.output


def test_an_unknown_strategy_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigurationError, match="ddp"):
        ComputeConfig(strategy="ddpp")  # type: ignore[arg-type]
