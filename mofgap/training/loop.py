"""What all trainings share: the schedule, checkpoints, resuming, the log."""

from __future__ import annotations

import csv
import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import lightning as L  # noqa: N812
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from mofgap.encoders.products import fast_products
from mofgap.shipped import LAST, LOG
from mofgap.training.compute import Compute
from mofgap.whole_file import whole_file

BEST = "best.ckpt"
CLOCKS = ("seconds", "cpu_seconds")
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a training that Ctrl-C or SIGTERM ends."""


class TrainingError(ValueError):
    """A training that cannot start or go on, and why."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint. It may hold tensors and plain values; nothing in it is executed.

    Raises:
        TrainingError: If the file ``path`` is missing or damaged, or is no checkpoint.
    """
    try:
        with ZipFile(path) as file:
            if (entry := file.testzip()) is not None:  # torch does not compare the checksums
                raise BadZipFile(entry)
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file made by somebody else can lead to
        what = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
        cure = f"delete {'it' if path.name == LAST else path.with_name(LAST)} to start the training again"
        raise TrainingError(f"{path} {what}: {cure}") from error
    return content


def restore(module: L.LightningModule, path: Path) -> dict[str, Any]:
    """Load the weights of a checkpoint, and return all of its content.

    Raises:
        TrainingError: If the file ``path`` is missing or damaged, or belongs to another training.
    """
    content = read_checkpoint(path)
    try:
        module.load_state_dict(content["state_dict"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise TrainingError(f"{path} is of another training: choose another folder") from error
    return content


def read_log(path: Path) -> list[dict[str, str]]:
    """The rows of a training's ``metrics.csv``, one per epoch.

    Raises:
        TrainingError: If the file ``path`` is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            _ = int(row["epoch"]), float(row["seconds"]), [float(value) for value in row.values() if value]
        if not rows:
            raise ValueError("it has no rows")
    except (FileNotFoundError, csv.Error, KeyError, TypeError, ValueError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
        cure = f"delete {path.with_name(LAST)} to start the training again"
        raise TrainingError(f"{path} {what}: {cure}") from error
    return rows


def write_log(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a log, which `read_log` reads; a value that a row lacks is left empty."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


class EpochLog(Callback):  # type: ignore[misc]
    """Keeps what was logged in a CSV, one row per epoch; a resumed run adds to it.

    Args:
        path: The CSV.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = self.begun_cpu = 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clocks."""
        self.begun, self.begun_cpu = time.monotonic(), time.process_time()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the file anew, since an epoch may be repeated after a kill."""
        if not trainer.is_global_zero:
            return
        rows: list[dict[str, Any]] = []
        if trainer.current_epoch and self.path.exists():
            rows = [row for row in read_log(self.path) if int(row["epoch"]) < trainer.current_epoch]
        logged = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        place = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(time.monotonic() - self.begun, 1),
            "cpu_seconds": round(time.process_time() - self.begun_cpu, 1),
        }
        write_log(self.path, [*rows, place | logged])


class EpochLines(Callback):  # type: ignore[misc]
    """Writes the progress of a training to standard error, one line per epoch, terminal or not.

    Args:
        model: Which of several models it is, such as ``model 2 of 6``; nothing for a single one.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.begun: float | None = None
        self.first = 0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Start the clock at the first epoch of this start."""
        if self.begun is None:
            self.begun, self.first = time.monotonic(), trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the line."""
        if not trainer.is_global_zero or self.begun is None:
            return
        done, wanted = trainer.current_epoch + 1, trainer.max_epochs or 0
        left = (time.monotonic() - self.begun) / (done - self.first) * (wanted - done)
        logged = trainer.callback_metrics
        words = [self.model] if self.model else []
        words.append(f"epoch {done} of {wanted}")
        words += [text.format(float(logged[name])) for name, text in _LOGGED.items() if name in logged]
        minutes, seconds = divmod(round(left), 60)
        words.append(f"{minutes} min {seconds:02d} s left")
        sys.stderr.write(f"{', '.join(words)}\n")
        sys.stderr.flush()


_LOGGED = {
    "train_loss": "loss {:.3g}",
    "train_mae_ev": "train error {:.3f} eV",
    "val_mae_ev": "val error {:.3f} eV",
    "val_loss": "val loss {:.3g}",
}
"""The words for the logged values of an epoch."""


class Kept(ModelCheckpoint):  # type: ignore[misc]
    """A checkpoint in a folder that may have been moved since.

    Under another name of this class, a resumed training would lose the best epoch so far.

    Args:
        folder: Where it lies.
        name: Its name.
        monitor: The metric that chooses the best epoch; None keeps the last.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None) -> None:
        stem = name.removesuffix(self.FILE_EXTENSION)
        super().__init__(folder, filename=stem, monitor=monitor, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the record of the best epoch; Lightning drops it if the folder was moved."""
        here = Path(str(self.dirpath))

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        paths = {name: moved(path) for name, path in state_dict.items() if name.endswith("_model_path")}
        best = {moved(path): value for path, value in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | paths | {"best_k_models": best, "dirpath": self.dirpath})


class WholeCheckpoints(TorchCheckpointIO):  # type: ignore[misc]
    """Checkpoints that appear whole or not at all.

    Lightning's own are moved from the folder of temporary files. On another disk a kill may cut them.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint, then put it in the place of the one before."""
        with whole_file(Path(path)) as partial, partial.open("wb") as file:
            torch.save(checkpoint, file)


def warmup_cosine(optimizer: torch.optim.Optimizer, total_steps: int, warmup: float) -> dict[str, Any]:
    """An optimiser for Lightning: linear warm-up over a share of the steps, then a cosine to zero."""
    rise = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total_steps - rise))))

    schedule = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
    return {"optimizer": optimizer, "lr_scheduler": schedule}


def seed_step(module: L.LightningModule, seed: int) -> None:
    """Seed torch's global generator for one step, so that a resumed training draws the same."""
    torch.manual_seed(
        int(np.random.SeedSequence([seed, module.global_step, module.global_rank]).generate_state(1)[0])
    )


def n_steps(train: DataLoader[Any], epochs: int, compute: Compute) -> int:
    """Steps of a whole training.

    Raises:
        TrainingError: If there are fewer batches than processes.
    """
    share = len(train) // compute.processes
    if not share:
        raise TrainingError(
            f"{len(train)} batches of training structures cannot be shared by {compute.processes} processes: "
            "take fewer devices, or smaller batches"
        )
    return epochs * share


def check_folder(folder: Path, *, resume: bool) -> None:
    """Make sure that a training can start in a folder, or go on there.

    Raises:
        TrainingError: If ``folder`` holds a training and ``resume`` is False, a checkpoint or the log in it
            is damaged, or the log is missing.
    """
    if not any(folder.rglob(LAST)):  # also of a fold
        return
    if not resume:
        raise TrainingError(f"{folder} holds a training already: resume it, or choose another folder")
    for name in (LAST, BEST):
        if (folder / name).exists():
            read_checkpoint(folder / name)
    if (folder / LAST).exists():
        read_log(folder / LOG)


def fit(
    module: L.LightningModule,
    train: DataLoader[Any],
    val: DataLoader[Any] | None,
    folder: Path,
    *,
    epochs: int,
    monitor: str,
    patience: int | None = None,
    resume: bool,
    compute: Compute,
) -> Path:
    """Train, keeping the last and the best state on disk.

    The order of structures and every random draw depend on seed and step alone. A run that continues from
    its last checkpoint therefore ends with the same weights. Each epoch writes a checkpoint.

    Args:
        module: What is trained; logs ``monitor`` on validation.
        train: Training batches.
        val: Validation batches; without any, the last epoch is kept.
        folder: Where checkpoints and ``metrics.csv`` go.
        epochs: Passes over the training structures.
        monitor: Name of the validation metric that chooses the best epoch; smaller is better.
        patience: Stop after so many epochs without improvement; None never does.
        resume: Go on from the last checkpoint of ``folder``.
        compute: What it runs on. With several devices, the program goes on after this call in the first
            process alone.

    Returns:
        Path of the checkpoint that was kept.

    Raises:
        TrainingError: If ``folder`` holds a training and ``resume`` is False, the checkpoint is damaged or
            belongs to another training, or the training diverged.
    """
    check_folder(folder, resume=resume)
    last = folder / LAST
    before = restore(module, last) if last.exists() else None
    folder.mkdir(parents=True, exist_ok=True)
    _quieten_lightning()
    lines: list[Callback] = [EpochLines(compute.model)] if compute.progress else []
    chosen_by = None if val is None else monitor
    trainer = _trainer(folder, epochs, [*lines, *_callbacks(folder, chosen_by, patience)], compute)
    if not _lost_patience(before, patience):
        told = folder if compute.progress and trainer.is_global_zero else None
        with _told_where_it_ended(told), fast_products():
            trainer.fit(module, train, val, ckpt_path=str(last) if before else None, weights_only=True)
    if not trainer.is_global_zero:
        raise SystemExit(0)
    _check_finite(folder / LOG, chosen_by)
    return last if chosen_by is None else folder / BEST


@contextmanager
def _told_where_it_ended(folder: Path | None) -> Iterator[None]:
    """Give a training that a signal ends the signal's exit code; Lightning's says that all went well.

    A ``folder`` is named as what keeps the training; None names none.
    """
    try:
        yield
    except SystemExit as end:
        if folder is not None:
            sys.stderr.write(f"mofgap: stopped; {folder} keeps what was trained: resume it\n")
        raise SystemExit(TERMINATED if isinstance(end, SIGTERMException) else INTERRUPTED) from end


def _trainer(folder: Path, epochs: int, callbacks: list[Callback], compute: Compute) -> L.Trainer:
    return L.Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        callbacks=callbacks,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
        **compute.trainer | {"plugins": [*compute.trainer["plugins"], WholeCheckpoints()]},
    )


def _quieten_lightning() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its tips and its device list
    warnings.filterwarnings("ignore", "The `srun` command is available")  # who wants it, uses it
    warnings.filterwarnings("ignore", "Checkpoint directory .* not empty")  # it holds files of ours
    warnings.filterwarnings("ignore", r"`isinstance\(treespec")  # of Lightning, not of its user
    warnings.filterwarnings("ignore", "You defined a `validation_step`")  # few labels have no val


def _callbacks(folder: Path, monitor: str | None, patience: int | None) -> list[Callback]:
    """What stops a training early, writes its log and keeps its states; the last state comes last."""
    found: list[Callback] = [EpochLog(folder / LOG)]
    if monitor is not None:
        if patience is not None:
            found.insert(0, EarlyStopping(monitor, patience=patience))
        found.append(Kept(folder, BEST, monitor))
    return [*found, Kept(folder, LAST, None)]


def _lost_patience(before: Mapping[str, Any] | None, patience: int | None) -> bool:
    """Whether a training stopped early before; Lightning would give it another epoch."""
    if patience is None or before is None:
        return False
    states = [each for name, each in before["callbacks"].items() if name.startswith("EarlyStopping")]
    # At an error that is not finite it stops before patience is lost.
    diverged = any(each["stopped_epoch"] > 0 and each["wait_count"] < each["patience"] for each in states)
    return diverged or any(each["wait_count"] >= patience for each in states)


def _check_finite(log: Path, monitor: str | None) -> None:
    """Refuse a training whose kept epoch, the best or the last, has a metric that is not finite."""
    rows = read_log(log)
    if monitor is None:
        finite = all(math.isfinite(float(value)) for value in rows[-1].values() if value)
    else:
        finite = any(math.isfinite(float(row[monitor])) for row in rows if row[monitor])
    if not finite:
        raise TrainingError(f"{log.parent}: the training diverged: try a lower learning rate")
