"""A run that pretrains its own encoder and trains on it, on the structures of the quickstart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

from mofgap.configuration import ConfigurationError, from_dict
from mofgap.gap.predictor import load_model
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunFolder, sha256
from mofgap.study.engine.plan import plan, stage_named
from mofgap.study.engine.stage import run_stage
from mofgap.training.atoms import ATOM_TARGETS
from mofgap.training.labels import read_labels

ROOT = Path(__file__).parents[3]
N_ROWS = 90
PARTS = ["train"] * 35 + ["val"] * 30 + ["test"] * 25


def configuration(table: str) -> dict[str, Any]:
    trainings = {"full": 0, "scratch": 0, "lora": 0, "balora": 1, "dropout": 0, "ensemble": 0}
    comparison = {
        "data": {"table": table},
        "splits": {"split": {"trainings": trainings}},
        "recipe": {"epochs": 1, "rank": 2, "head_hidden": 16, "blocks": [1]},
        "prediction": {"samples": [1, 2], "n_val": None},
        "judgement": {"n_draws": 20},
        "compute": {"device": "cpu"},
    }
    pretraining = {"table": table, "blocks": 2, "width": 16, "epochs": 2, "device": "cpu"}
    return {"name": "own", "report": False, "comparison": comparison, "pretraining": pretraining}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Structures of the quickstart, once with made-up values of their atoms and once as they are."""
    folder = tmp_path_factory.mktemp("place")
    shipped = ROOT / "data/quickstart"
    frame = read_labels(shipped / "labels.csv", shipped / "structures.zip", "gap_ev", seed=0, needed=()).frame
    smallest = frame.atomic_numbers.map(len).sort_values(kind="stable").index[:N_ROWS]
    frame = frame.loc[smallest].sample(frac=1, random_state=0).reset_index(drop=True).assign(split=PARTS)
    frame.to_parquet(folder / "labels.parquet")
    for place, name in enumerate(ATOM_TARGETS):
        frame[name] = [np.cos(np.asarray(numbers) + place) for numbers in frame.atomic_numbers]
    frame.to_parquet(folder / "atoms.parquet")
    return folder


def test_a_run_trains_on_the_encoder_that_it_pretrained(here: Callable[..., Result], place: Path) -> None:
    (place / "run.yaml").write_text(json.dumps(configuration("atoms.parquet")))
    folder = place / "runs/atoms"
    done = here("run", "run.yaml", "-o", folder, at=place)
    assert done.exit_code == 0, done.stderr
    assert "[1/9] pretrain:" in done.stderr.splitlines()[0]
    weights = [folder / name / "encoder.safetensors" for name in ("pretraining", "encoder")]
    assert sha256(weights[0]) == sha256(weights[1]) != ""
    described = json.loads((folder / "pretraining/encoder.json").read_text())
    assert described["encoder"]["width"] == 16 and described["pretraining"]["epochs"] == 2
    assert load_model(folder / "members/split/balora-seed0").model.config.encoder_settings["n_blocks"] == 2
    assert len(pd.read_parquet(folder / "predictions.parquet").query("method == 'balora-weights'")) > 0
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["finished"] and manifest["seeds"]["pretraining"] == 0
    assert {"pretraining/encoder.safetensors", "pretraining/encoder.json"} < set(manifest["outputs"])
    assert here("runs", "verify", folder, at=place).exit_code == 0
    assert "every stage was done already" in here("run", "run.yaml", "-o", folder, at=place).stderr


def test_a_table_without_values_of_atoms_is_refused(place: Path) -> None:
    """By an error of which a run tells the words alone."""
    config = from_dict(RunConfig, configuration(str(place / "labels.parquet")))
    run = RunFolder(place / "runs/labels")
    stage = stage_named(plan(config, run.path), "pretrain")
    run.write_request(stage.name, stage.request())
    with pytest.raises(ValueError, match=r"labels.parquet: .*pbe_ddec6_charge_e"):
        run_stage(stage, config, run, threads=1)


def test_another_size_is_pretrained_from_the_beginning(place: Path) -> None:
    run = RunFolder(place / "runs/sizes")
    for n_blocks in (2, 1):
        content = configuration(str(place / "atoms.parquet"))
        content["pretraining"] |= {"blocks": n_blocks, "epochs": n_blocks}
        config = from_dict(RunConfig, content)
        stage = stage_named(plan(config, run.path), "pretrain")
        run.write_request(stage.name, stage.request())
        assert run_stage(stage, config, run, threads=1)
        described = json.loads((run.path / "pretraining/encoder.json").read_text())
        assert described["encoder"]["n_blocks"] == n_blocks
        assert len(pd.read_csv(run.path / "pretraining/metrics.csv")) == n_blocks
        assert not list(run.path.glob("pretraining/*.ckpt"))
        assert (
            "pretraining/metrics.csv" not in run.record("pretrain")["outputs"]
        )  # it has the times of epochs


def test_an_unknown_encoder_is_refused_at_once() -> None:
    content = configuration("atoms.parquet")
    content["pretraining"]["architecture"] = "shcnet"
    with pytest.raises(ConfigurationError, match=r"pretraining\.architecture: .*'schnet'"):
        from_dict(RunConfig, content)


def test_labels_alone_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"pretraining.*parquet.*labels\.csv"):
        from_dict(RunConfig, configuration("data/quickstart/labels.csv"))
