from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import lightning as L  # noqa: N812
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mofgap.configuration import ConfigurationError
from mofgap.training.loop import Compute, TrainingError, fit, n_steps, warmup_cosine

QUIET = Compute("cpu", progress=False)
BATCHES = DataLoader(TensorDataset(torch.ones(2, 1)))


class Scripted(L.LightningModule):
    """A training whose validation errors are written down beforehand."""

    def __init__(self, errors: list[float]) -> None:
        super().__init__()
        self.errors = errors
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if self.errors[self.current_epoch] == math.inf:
            raise RuntimeError("killed")
        loss: Tensor = self.layer(batch[0]).square().mean()
        self.log("train", loss * self.errors[self.current_epoch], on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("error", torch.tensor(self.errors[self.current_epoch]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(
    folder: Path, errors: list[float], *, patience: int | None = None, resume: bool = False, val: bool = True
) -> int:
    """The epoch that was kept."""
    best = fit(
        Scripted(errors),
        BATCHES,
        BATCHES if val else None,
        folder=folder,
        epochs=len(errors),
        monitor="error" if val else None,
        patience=patience,
        resume=resume,
        compute=QUIET,
    )
    return int(torch.load(best, weights_only=False)["epoch"])


def test_a_training_that_moved_remembers_its_best_epoch(tmp_path: Path) -> None:
    errors = [5.0, 1.0, 4.0, math.inf, 3.0, 2.0]
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "here", errors)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    errors[3] = 3.5
    assert run(tmp_path / "here", errors, resume=True) == 1
    shutil.rmtree(tmp_path / "here")
    assert run(tmp_path / "there", errors, resume=True) == 1
    states = torch.load(tmp_path / "there/last.ckpt", weights_only=False)["callbacks"]
    kept = [state["best_model_path"] for name, state in states.items() if name.startswith("Kept")]
    assert kept == [str(tmp_path / "there" / name) for name in ("best.ckpt", "last.ckpt")]


def test_a_checkpoint_of_another_job_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "other", [1.0])
    for name, value in {"JOB_ID": "1", "JOB_NAME": "x", "NTASKS": "1", "NNODES": "1", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.chdir(tmp_path)
    shutil.copy(tmp_path / "other" / "last.ckpt", tmp_path / "hpc_ckpt_1.ckpt")
    run(tmp_path / "mine", [3.0, 2.0])
    assert len(pd.read_csv(tmp_path / "mine" / "metrics.csv")) == 2


def test_a_training_that_stopped_early_is_over(tmp_path: Path) -> None:
    errors = [5.0, 4.0, 3.0, 3.5, 3.6, 1.0, 1.0]
    assert run(tmp_path, errors, patience=2) == 2
    for _ in range(2):
        assert run(tmp_path, errors, patience=2, resume=True) == 2
    assert pd.read_csv(tmp_path / "metrics.csv").epoch.tolist() == [0, 1, 2, 3, 4]
    assert run(tmp_path, errors, patience=3, resume=True) == 5  # who waits longer goes on


@pytest.mark.parametrize("val", [True, False])
def test_a_training_that_diverged_is_an_error(tmp_path: Path, val: bool) -> None:
    with pytest.raises(TrainingError, match="diverged: try a lower learning rate"):
        run(tmp_path, [torch.nan, torch.nan], val=val)


def test_one_finite_epoch_is_enough_to_choose(tmp_path: Path) -> None:
    assert run(tmp_path, [1.0, torch.nan]) == 0


def test_the_schedule_ends_with_the_steps() -> None:
    three: DataLoader[list[Tensor]] = DataLoader(TensorDataset(torch.ones(3, 1)))
    assert n_steps(three, 20, Compute("cpu")) == 60
    assert n_steps(three, 20, Compute("cpu", devices=2)) == 20
    with pytest.raises(
        TrainingError, match="3 batches of training structures cannot be shared by 4 processes"
    ):
        n_steps(three, 20, Compute("cpu", devices=4))


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: False))
    with pytest.raises(ConfigurationError, match=r"^device: .*no CUDA device"):
        Compute("cuda")


def test_the_rate_rises_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=20, warmup=0.2)
    rates = []
    for _ in range(21):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert max(rates) == 2.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[3:]))
    assert rates[12] == 1.0
    assert rates[20] == 0.0
