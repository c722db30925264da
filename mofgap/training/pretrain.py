"""Pretrain an encoder on a table with per-atom targets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mofgap.configuration import digest
from mofgap.crystals.dataset import TableError, cached_store
from mofgap.crystals.store import StoreBatch
from mofgap.encoders.registry import build_encoder, encoder_config, registered
from mofgap.training.atoms import SIZE_ONLY, AtomHeads, targets_of
from mofgap.training.batches import loader
from mofgap.training.compute import DEFAULT_COMPUTE, Compute
from mofgap.training.config import PretrainConfig
from mofgap.training.encoder_folder import save_encoder
from mofgap.training.labels import positions, unusable
from mofgap.training.lock import lock, table_digests
from mofgap.training.loop import check_folder, fit, n_steps, restore, seed_step, warmup_cosine
from mofgap.training.unseen import substitute_in_encoder


def atom_targets(frame: pd.DataFrame) -> Tensor:
    """The per-atom targets of a table, (n_atoms_total, n_targets) float32, in the order of `targets_of`.

    Raises:
        TableError: If the column of a target is missing, or does not hold one finite number for each atom.
    """
    columns = []
    for name, words in targets_of(frame.columns).items():
        if name not in frame.columns:
            raise TableError(f"pretraining needs the per-atom column {name} ({words}); add it")
        wrong = frame.structure_id[frame[name].map(np.size) != frame.atomic_numbers.map(len)]
        if len(wrong):
            raise TableError(f"{name} does not hold one value per atom in {wrong.iloc[0]}; correct it")
        numbers = [np.atleast_1d(values).astype(np.float32) for values in frame[name]]
        wrong = frame.structure_id[[not np.isfinite(values).all() for values in numbers]]
        if len(wrong):
            raise TableError(f"{name} holds no finite number in {wrong.iloc[0]}; correct it")
        values = np.concatenate(numbers)
        columns.append(np.abs(values) if name in SIZE_ONLY else values)
    return torch.from_numpy(np.stack(columns, axis=1))


class Pretraining(L.LightningModule):  # type: ignore[misc]
    """Lightning's view of ``AtomHeads``.

    Args:
        heads: What is trained.
        target: (n_atoms_total, n_targets) targets of all atoms.
        names: Names of the targets.
        config: How to train.
        total_steps: Steps of the whole training.
    """

    def __init__(
        self, heads: AtomHeads, target: Tensor, names: Iterable[str], config: PretrainConfig, total_steps: int
    ) -> None:
        super().__init__()
        self.names = tuple(names)
        self.heads = heads
        self.config = config
        self.target = target
        self.total_steps = total_steps

    def _losses(self, batch: StoreBatch, seed: list[int]) -> dict[str, Tensor]:
        chosen = np.random.default_rng(seed).random(batch.n_atoms) < self.config.mask_fraction
        target = self.target[batch.row].to(self.device)
        return self.heads.loss(
            batch, target, torch.from_numpy(chosen).to(self.device), self.config.mask_weight
        )

    def training_step(self, batch: StoreBatch, batch_idx: int) -> Tensor:
        """Descend the loss on one batch."""
        seed_step(self, self.config.seed)
        loss = self._losses(batch, [self.config.seed, 1, self.global_step, self.global_rank])["loss"]
        self.log("train_loss", loss, batch_size=batch.n_atoms, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: StoreBatch, batch_idx: int) -> None:
        """Log the loss and each target's mean absolute error; the same masks every epoch."""
        losses = self._losses(batch, [self.config.seed, 2, batch_idx])
        named = {f"val_mae_{name}": value for name, value in zip(self.names, losses["mae"], strict=True)}
        named["val_loss"] = losses["loss"]
        self.log_dict(named, batch_size=batch.n_atoms, sync_dist=True)
        if n_masked := int(losses["n_masked"]):
            accuracy = losses["element_accuracy"]
            self.log("val_element_accuracy", accuracy, batch_size=n_masked, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW under a warm-up and a cosine."""
        optimizer = torch.optim.AdamW(
            self.heads.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )
        return warmup_cosine(optimizer, self.total_steps, self.config.warmup)


def pretrain(
    frame: pd.DataFrame,
    folder: Path,
    architecture: str,
    encoder_settings: Mapping[str, Any],
    config: PretrainConfig,
    *,
    cache: Path | None = None,
    resume: bool = False,
    compute: Compute = DEFAULT_COMPUTE,
) -> Path:
    """Pretrain on the rows of split ``train``, choosing the epoch on split ``val``.

    Args:
        frame: A table with per-atom targets and a ``split`` column.
        folder: Where the training lives; ``encoder.safetensors`` and ``encoder.json`` end up there.
        architecture: Name of the encoder in the registry.
        encoder_settings: Its settings; those not given have their defaults.
        config: How to train it.
        cache: Folder of cached graphs.
        resume: Go on from the last checkpoint.
        compute: What it runs on.

    Returns:
        Path of the encoder's weights.

    Raises:
        TableError: If ``frame`` has no rows of split train or val, lacks a value for an atom, or holds a
            structure that is refused.
        TrainingError: If ``folder`` holds a different training, ``folder`` holds any training and ``resume``
            is False, or no epoch ended with a finite loss.
        ValueError: If ``architecture`` is unknown, or one of ``encoder_settings`` is unknown, has the wrong
            type, or is out of range.
    """
    architecture, encoder = registered(architecture), encoder_config(architecture, encoder_settings)
    frame = learnable_rows(frame)
    target = atom_targets(frame)
    made_of = table_digests(frame) | {
        "targets": hashlib.sha256(target.numpy().tobytes()).hexdigest(),
        "settings": digest(encoder, config),
        "architecture": architecture,
    }
    lock(folder, made_of | compute.decisive, resume=resume)
    check_folder(folder, resume=resume)
    store = cached_store(frame, encoder.graph, cache)
    learnt, held_out = positions(frame, "train"), positions(frame, "val")
    seen = target[store.atom_rows(learnt)]
    heads = _heads(architecture, asdict(encoder), seen, config.seed)
    train = loader(store, learnt, config.batch_atoms, config.seed)
    val = loader(store, held_out, config.batch_atoms, None)
    steps = n_steps(train, config.epochs, compute)
    module = Pretraining(heads, target, targets_of(frame.columns), config, steps)
    best = fit(
        module, train, val, folder, monitor="val_loss", epochs=config.epochs, resume=resume, compute=compute
    )
    restore(module, best)
    network = heads.encoder.cpu()
    substitutes = substitute_in_encoder(network, frame.atomic_numbers.iloc[learnt])
    described = {"architecture": architecture, "encoder": asdict(encoder), "pretraining": asdict(config)}
    return save_encoder(folder, network.state_dict(), described | {"substitutes": substitutes})


def learnable_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of splits train and val.

    Raises:
        TableError: If a split has no rows, or holds a structure that is refused.
    """
    for split in ("train", "val"):
        if "split" not in frame.columns or not (frame.split == split).any():
            raise TableError(f"training needs rows of split {split!r}; add a column split")
    frame = frame[frame.split.isin(["train", "val"])].reset_index(drop=True)
    if wrong := [*filter(None, unusable(frame))]:
        raise TableError(f"{len(wrong)} structures cannot be computed with; {wrong[0]}; leave them out")
    return frame


def _heads(architecture: str, settings: Mapping[str, Any], seen: Tensor, seed: int) -> AtomHeads:
    """An encoder of random weights, with heads scaled to the targets of the training atoms."""
    torch.manual_seed(seed)
    scale = seen.std(0)
    scale[scale == 0] = 1.0  # a target that never varies is its mean
    return AtomHeads(build_encoder(architecture, settings), seen.mean(0), scale)
