"""A small comparison, run stage by stage in this process, whose outputs are damaged once it is done."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.study.config import (
    ComparisonConfig,
    ComputeConfig,
    DataConfig,
    JudgementConfig,
    PredictionConfig,
    Recipe,
    SplitConfig,
    Trainings,
)
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunFolder
from mofgap.study.engine.plan import plan
from mofgap.study.engine.stage import run_stage
from mofgap.training.encoder_folder import save_encoder

TINY = CrystalTransformerConfig(
    n_blocks=1, width=16, n_heads=4, n_radial=8, edge_width=8, ffn_width=16, n_neighbours=6
)
WEIGHTS = "members/split/lora-seed0/model.safetensors"
PREDICTIONS = "predictions/split/lora-seed0.parquet"
SCORES = "comparison.parquet"


def row(index: int) -> dict[str, object]:
    rng = np.random.default_rng(index)
    numbers = rng.choice([1, 6, 8, 30], 4)
    return {
        "structure_id": f"tiny-{index:03d}",
        "cell_angstrom": (np.eye(3) * 6 + rng.normal(0, 0.2, (3, 3))).ravel(),
        "atomic_numbers": numbers,
        "frac_coords": rng.random(12),
        "gap_ev": 3 * float((numbers == 8).mean()) + 0.3 * float(rng.random()),
        "split": ("train", "train", "val", "test")[index % 4],
    }


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("inputs")
    torch.manual_seed(5)
    save_encoder(folder, CrystalTransformer(TINY).state_dict(), {"encoder": asdict(TINY)})
    pd.DataFrame([row(i) for i in range(100)]).to_parquet(folder / "table.parquet")
    comparison = ComparisonConfig(
        data=DataConfig(folder / "table.parquet"),
        encoder=str(folder),
        splits={"split": SplitConfig(trainings=Trainings(0, 0, 1, 0, 0, 0))},
        recipe=Recipe(epochs=1, rank=2, head_hidden=16, blocks=(0,), batch_atoms=60, learning_rate=1e-3),
        prediction=PredictionConfig((1,), n_val=None),
        judgement=JudgementConfig(n_draws=10),
        compute=ComputeConfig(device="cpu"),
    )
    return RunConfig("damaged", comparison=comparison, report=False)


def do(config: RunConfig, folder: RunFolder) -> list[str]:
    """Do all stages; returns the names of those that had anything to do."""
    done = []
    for stage in plan(config, folder.path):
        folder.write_request(stage.name, stage.request())
        if run_stage(stage, config, folder, threads=1):
            done.append(stage.name)
    return done


@pytest.fixture(scope="module")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())  # stages set their number of threads
        do(config, folder)
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "stage", "damage"),
    [
        (WEIGHTS, "train/split/lora-seed0", flip),
        (PREDICTIONS, "predict/split/lora-seed0", Path.unlink),
        (SCORES, "compare", lambda path: path.write_bytes(path.read_bytes()[:100])),
    ],
)
def test_a_damaged_output_is_made_again_as_it_was(
    config: RunConfig,
    finished: RunFolder,
    name: str,
    stage: str,
    damage: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    path = finished.path / name
    before = path.read_bytes()
    damage(path)
    assert stage in do(config, finished)
    assert path.read_bytes() == before
    assert do(config, finished) == []
