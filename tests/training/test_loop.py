from __future__ import annotations

import itertools
import math
import shutil
import signal
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import lightning as L  # noqa: N812
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mofgap.configuration import ConfigurationError
from mofgap.training.compute import Compute
from mofgap.training.lock import lock
from mofgap.training.loop import (
    TrainingError,
    WholeCheckpoints,
    check_folder,
    fit,
    n_steps,
    read_checkpoint,
    restore,
    seed_step,
    warmup_cosine,
)

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
    return int(read_checkpoint(best)["epoch"])


class Command:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_command_in_a_checkpoint_is_not_run(tmp_path: Path, name: str, is_zip: bool) -> None:
    folder, made = tmp_path / "run", tmp_path / "made"
    run(folder, [2.0, 1.0])
    content = read_checkpoint(folder / name) | {"hparams_name": Command(made)}
    torch.save(content, folder / name, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(TrainingError, match=rf"{name} is damaged: delete .*last\.ckpt|{name} .*delete it"):
        run(folder, [2.0, 1.0, 0.5], resume=True)
    assert not made.exists()
    torch.load(folder / name, weights_only=False)
    assert made.exists()


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_damaged_checkpoint_is_never_believed(tmp_path: Path, name: str) -> None:
    run(tmp_path, [2.0, 1.0])
    path, rng = tmp_path / name, np.random.default_rng(0)
    whole, before = path.read_bytes(), repr(read_checkpoint(path))
    refused = 0
    for place in rng.integers(len(whole), size=150):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        try:
            assert repr(read_checkpoint(path)) == before  # in what fills the file up, and in its dates
        except TrainingError as error:
            refused += name in str(error)
    assert refused > 75
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match=name):
        run(tmp_path, [2.0, 1.0, 0.5], resume=True)


def test_a_checkpoint_of_another_training_is_told(tmp_path: Path) -> None:
    run(tmp_path, [2.0, 1.0])
    for name in ("best.ckpt", "last.ckpt"):
        content = read_checkpoint(tmp_path / name)
        content["state_dict"]["layer.weight"] = torch.ones(3, 3)
        torch.save(content, tmp_path / name)
    with pytest.raises(TrainingError, match=r"last\.ckpt is of another training"):
        run(tmp_path, [2.0, 1.0, 0.5], resume=True)
    with pytest.raises(TrainingError, match=r"best\.ckpt is of another training"):
        restore(Scripted([]), tmp_path / "best.ckpt")


@pytest.mark.parametrize("content", ["epoch,step\n0,1", "epoch,step,seconds\n0,1,x", "\0", "epoch\n0,1,2"])
def test_a_damaged_log_is_named(tmp_path: Path, content: str) -> None:
    run(tmp_path, [2.0, 1.0])
    (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(TrainingError, match=r"metrics\.csv is damaged: delete .*last\.ckpt"):
        run(tmp_path, [2.0, 1.0, 0.5], resume=True)
    (tmp_path / "last.ckpt").unlink()
    assert run(tmp_path, [2.0, 1.0], resume=True) == 1  # the cure works


@pytest.mark.parametrize("val", [True, False])
def test_a_missing_log_is_named_and_the_training_kept(tmp_path: Path, val: bool) -> None:
    run(tmp_path, [2.0, 1.0], val=val)
    (tmp_path / "metrics.csv").unlink()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for errors in ([2.0, 1.0], [2.0, 1.0, 0.5]):
        with pytest.raises(TrainingError, match=r"metrics\.csv is missing: delete .*last\.ckpt"):
            run(tmp_path, errors, val=val, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_training_that_met_nan_has_ended(tmp_path: Path) -> None:
    errors = [1.0, math.nan, 0.5]
    assert run(tmp_path, errors, patience=2) == 0
    assert run(tmp_path, errors, patience=2, resume=True) == 0


def test_a_checkpoint_of_a_fold_is_a_training(tmp_path: Path) -> None:
    run(tmp_path / "fold-1", [1.0])
    lock(tmp_path, {"labels": "mine"}, resume=False)
    assert not (tmp_path / "key.json").exists()  # it would claim the folds of another training
    with pytest.raises(TrainingError, match="holds a training already"):
        check_folder(tmp_path, resume=False)


def test_a_checkpoint_is_written_beside_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while it is written leaves the one before, whichever disk has the temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert run(tmp_path / "model", [2.0, 1.0]) == 1
    save = torch.save

    def cut(content: object, file: BinaryIO) -> None:
        save(content, file)
        file.truncate(100)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        WholeCheckpoints().save_checkpoint({"epoch": 7}, tmp_path / "model" / "last.ckpt")
    assert read_checkpoint(tmp_path / "model" / "last.ckpt")["epoch"] == 1


def test_a_training_that_moved_remembers_its_best_epoch(tmp_path: Path) -> None:
    errors = [5.0, 1.0, 4.0, math.inf, 3.0, 2.0]
    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path / "here", errors)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    errors[3] = 3.5
    assert run(tmp_path / "here", errors, resume=True) == 1
    shutil.rmtree(tmp_path / "here")
    assert run(tmp_path / "there", errors, resume=True) == 1
    states = read_checkpoint(tmp_path / "there/last.ckpt")["callbacks"]
    kept = [state["best_model_path"] for name, state in states.items() if name.startswith("Kept")]
    assert kept == [str(tmp_path / "there" / name) for name in ("best.ckpt", "last.ckpt")]


def test_a_checkpoint_of_another_job_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "other", [1.0])
    for name, value in {"JOB_ID": "1", "JOB_NAME": "x", "NTASKS": "1", "NNODES": "1", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.chdir(tmp_path)
    shutil.copy(tmp_path / "other" / "last.ckpt", tmp_path / "hpc_ckpt_1.ckpt")
    assert [type(plugin) for plugin in Compute("cpu").trainer["plugins"]] == [LightningEnvironment]
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
    with pytest.raises(TrainingError, match="diverged"):
        run(tmp_path, [torch.nan, torch.nan], val=val)


def test_one_finite_epoch_is_enough_to_choose(tmp_path: Path) -> None:
    assert run(tmp_path, [1.0, torch.nan]) == 0


def test_every_step_process_and_seed_draws_its_own_and_draws_it_again() -> None:
    def draw(step: int, rank: int, seed: int) -> float:
        place = SimpleNamespace(global_step=step, global_rank=rank)
        seed_step(place, seed)  # type: ignore[arg-type]
        return float(torch.rand(()))

    places = list(itertools.product(range(3), repeat=3))
    drawn = [draw(*place) for place in places]
    assert len(set(drawn)) == len(places) and drawn == [draw(*place) for place in places]


def test_the_schedule_ends_with_the_steps() -> None:
    three: DataLoader[list[Tensor]] = DataLoader(TensorDataset(torch.ones(3, 1)))
    assert n_steps(three, 20, Compute("cpu")) == 60
    assert n_steps(three, 20, Compute("cpu", devices=2)) == 20
    with pytest.raises(TrainingError, match=r"3 batches .*4 processes"):
        n_steps(three, 20, Compute("cpu", devices=4))


def test_a_missing_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: False))
    with pytest.raises(ConfigurationError, match=r"^device: .*no CUDA device"):
        Compute("cuda")


def test_the_rate_rises_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=20, warmup=0.2)["lr_scheduler"]["scheduler"]
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


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt, 130), (SIGTERMException, 143)])
def test_a_training_that_a_signal_ends_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: type[BaseException], code: int
) -> None:
    """Lightning ends the process as if all were well."""

    class Ended(Scripted):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            raise end

    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            how = {"epochs": 1, "monitor": "error", "resume": False, "compute": Compute("cpu")}
            fit(Ended([1.0]), BATCHES, None, tmp_path, **how)  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores it from then on
    assert ended.value.code == code and "resume it" in capsys.readouterr().err
