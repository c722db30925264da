"""A training on two devices, as two processes of this machine's CPU, inside a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import Result

import mofgap
from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.gap.predictor import load_model
from mofgap.study.engine.folder import sha256
from mofgap.training.encoder_folder import save_encoder

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
TINY = CrystalTransformerConfig(
    n_blocks=2, width=16, n_heads=4, n_radial=8, edge_width=8, ffn_width=16, n_neighbours=6
)
Finished = subprocess.CompletedProcess[str]
N_ROWS = 80
N_STEPS = 2
MEMBER = "members/split/balora-seed0"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_cifs: Callable[[Path, int], list[Path]]) -> Path:
    """A working directory with labelled zinc formates, a tiny encoder, and a comparison of one training."""
    folder = tmp_path_factory.mktemp("place")
    write_cifs(folder / "cifs", N_ROWS)
    gaps = np.random.default_rng(0).uniform(1, 3, N_ROWS)
    parts = ["train"] * 30 + ["val"] * 30 + ["test"] * 20
    names = [f"s{i}" for i in range(N_ROWS)]
    pd.DataFrame({"structure_id": names, "gap_ev": gaps, "split": parts}).to_csv(folder / "labels.csv")
    torch.manual_seed(0)
    (folder / "encoder").mkdir()
    save_encoder(folder / "encoder", CrystalTransformer(TINY).state_dict(), {"encoder": asdict(TINY)})
    trainings = {"full": 0, "scratch": 0, "lora": 0, "balora": 1, "dropout": 0, "ensemble": 0}
    comparison = {
        "data": {"table": "labels.csv", "cifs": "cifs"},
        "encoder": "encoder",
        "splits": {"split": {"trainings": trainings}},
        "recipe": {"epochs": 2, "rank": 2, "head_hidden": 16, "blocks": [1], "batch_atoms": 30},
        "prediction": {"samples": [1, 2], "n_val": None},
        "judgement": {"n_draws": 20},
        "compute": {"device": "cpu", "devices": 2, "strategy": "ddp"},
    }
    (folder / "run.yaml").write_text(json.dumps({"name": "two", "comparison": comparison, "report": False}))
    return folder


def run(place: Path, *arguments: str, command: Sequence[str] = ("run", "-j", "2")) -> Finished:
    command = [sys.executable, "-m", "mofgap", *command, "run.yaml", *arguments]
    return subprocess.run(command, cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=280)


def test_a_training_of_its_own_takes_two_processes(place: Path) -> None:
    settings = "--encoder encoder --blocks 1 --rank 2 --epochs 2 --batch-atoms 30 --device cpu --devices 2"
    command = [sys.executable, "-m", "mofgap", "train", "labels.csv", "cifs", *settings.split()]
    done = subprocess.run(
        [*command, "-o", "model"], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    log = pd.read_csv(place / "model/training/metrics.csv")
    assert log.step.tolist() == [N_STEPS, 2 * N_STEPS]
    assert done.stderr.count("epoch 1 of 2") == 1  # the second process says nothing of its own
    assert load_model(place / "model").predict(sorted((place / "cifs").glob("*.cif"))[:2]).shape == (2,)


def test_two_processes_train_one_member_and_the_same_by_another_command(place: Path) -> None:
    done = {"runs/two": run(place), "compared": run(place, "-o", "compared", command=["compare"])}
    found = []
    for folder, finished in done.items():
        assert finished.returncode == 0 and "Traceback" not in finished.stderr, finished.stderr
        history = pd.read_csv(place / folder / MEMBER / "history.csv")
        assert history.step.tolist() == [N_STEPS, 2 * N_STEPS]  # the two processes share the batches
        written = [
            *sorted((place / folder / MEMBER).glob("*.safetensors")),
            place / folder / "predictions.parquet",
        ]
        found.append({path.name: sha256(path) for path in written})
    assert len(found[0]) > 1 and found[0] == found[1]


def test_several_nodes_need_a_scheduler(here: Callable[..., Result], place: Path) -> None:
    found = here("run", "run.yaml", "-o", "runs/nodes", "--set", "comparison.compute.nodes=2", at=place)
    assert found.exit_code == 1
    assert "nodes: " in found.stderr and "--executor slurm" in found.stderr
