from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.study.config import (
    Ablation,
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
from mofgap.study.engine.run import Run
from mofgap.study.engine.stage import run_stage
from mofgap.training.encoder_folder import save_encoder

TINY = CrystalTransformerConfig(
    n_blocks=2, width=16, n_heads=4, n_radial=8, edge_width=8, ffn_width=16, n_neighbours=6
)
N_ROWS = 140


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all workers of a session. What one makes there, under the lock of its name, others find."""
    own = tmp_path_factory.getbasetemp()
    return (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "study"


@pytest.fixture(scope="session")
def tiny_table(shared: Path, make_row: Callable[..., dict[str, Any]]) -> Path:
    def row(index: int) -> dict[str, Any]:
        """The gap follows from the elements; cobalt in one of eight, groups of one to three."""
        rng = np.random.default_rng(index)
        made = make_row(rng, 6, (1, 6, 8))
        made["atomic_numbers"][0] = 27 if index % 8 == 0 else 30
        return {
            **made,
            "structure_id": f"tiny-{index:03d}",
            "gap_ev": 3 * float((made["atomic_numbers"] == 8).mean()) + 0.3 * float(rng.random()),
            "split": ("train", "train", "val", "test")[index % 4],
            "group": index // 3 if index < 60 else 1000 + index,
        }

    path = shared / "table.parquet"
    with RunFolder(shared).locked("table", wait=True):
        if not path.exists():
            frame = pd.DataFrame([row(i) for i in range(N_ROWS)])
            test = frame[frame.split == "test"]
            published = pd.DataFrame(
                {"structure_id": test.structure_id, "gap_ev": test.gap_ev, "theirs_ev": test.gap_ev + 0.1}
            )
            published.iloc[1:].to_csv(path.with_name("published.csv"), index=False)
            frame.to_parquet(path)
    return path


@pytest.fixture(scope="session")
def tiny_encoder_folder(shared: Path) -> Path:
    folder = shared / "encoder"
    with RunFolder(shared).locked("encoder", wait=True):
        if not folder.exists():
            torch.manual_seed(5)
            folder.mkdir()
            save_encoder(folder, CrystalTransformer(TINY).state_dict(), {"encoder": asdict(TINY)})
    return folder


@pytest.fixture(scope="session")
def tiny_config(tiny_table: Path, tiny_encoder_folder: Path) -> ComparisonConfig:
    few = Trainings(full=1, scratch=0, lora=1, balora=1, dropout=0, ensemble=2)
    return ComparisonConfig(
        data=DataConfig(table=tiny_table, published=tiny_table.with_name("published.csv")),
        encoder=str(tiny_encoder_folder),
        splits={
            "split": SplitConfig(trainings=Trainings(1, 1, 2, 2, 1, 3)),
            "group": SplitConfig("grouped", trainings=few),
            "without-Co": SplitConfig("without", element="Co", trainings=Trainings(0, 0, 0, 1, 0, 2)),
        },
        recipe=Recipe(
            epochs=2, rank=2, head_hidden=16, blocks=(1,), batch_atoms=60, learning_rate=1e-3, n_train=36
        ),
        ablations={"rank-1": Ablation(rank=1), "constant": Ablation(alpha="constant")},
        prediction=PredictionConfig(
            (1, 2, 4, 8), full_curves=1, most_samples=4, batch_atoms=200, neighbour_correction=True
        ),
        judgement=JudgementConfig(n_draws=20),
        compute=ComputeConfig(device="cpu"),
    )


def do(config: RunConfig, run: Path) -> list[str]:
    """Do every stage that is not done, in this process; names of those that were not."""
    folder, done = RunFolder(run), []
    import rich.console  # noqa: F401 (it keeps the environment that it finds when it is imported)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())  # stages set their number of threads
        for stage in plan(config, run):
            folder.write_request(stage.name, stage.request())
            if run_stage(stage, config, folder, threads=1):
                done.append(stage.name)
    return done


@pytest.fixture(scope="session")
def do_stages() -> Callable[[RunConfig, Path], list[str]]:
    return do


@pytest.fixture(scope="session")
def finished(tiny_config: ComparisonConfig, shared: Path) -> Path:
    """A finished run, to be looked at and not to be changed."""
    config = RunConfig("tiny", comparison=tiny_config, report=False)
    with RunFolder(shared).locked("finished", wait=True):
        if not Run(config, shared / "finished").is_finished:
            do(config, shared / "finished")
    return shared / "finished"
