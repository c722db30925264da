"""One network for several levels of theory and for what DFT knows of each atom, trained together.

All weights of an encoder are trained, with dropout and virtual nodes. The targets are the gaps of several
columns and those of its pretraining. For each column a model folder without error bars is written, to be a
member of an ensemble: ``python -m mofgap.training.joint TABLE -o FOLDER``, then ``mofgap train ...
--ensemble-with FOLDER/pbe_gap_ev``.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import pandas as pd
import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor

from mofgap.choices import BATCH_ATOMS, MAX_SEED
from mofgap.configuration import ConfigurationError, digest, part, schema
from mofgap.counts import counted
from mofgap.crystals.dataset import TableError, cached_store, read_table
from mofgap.crystals.distinct import distinct_store
from mofgap.crystals.store import GraphStore, StoreBatch
from mofgap.datasets.label_table import no_column, other_unit
from mofgap.encoders.registry import build_encoder
from mofgap.gap.folder import About, ModelError, read_config, read_model, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.plain_words import settings_of
from mofgap.shipped import DEFAULT_ENCODER
from mofgap.training.batches import loader
from mofgap.training.compute import DEFAULT_COMPUTE, Compute
from mofgap.training.encoder_folder import PretrainedEncoder, find_encoder
from mofgap.training.joint_network import JointNetwork
from mofgap.training.labels import positions
from mofgap.training.lock import lock, table_digests
from mofgap.training.loop import TrainingError, fit, n_steps, restore, seed_step, warmup_cosine
from mofgap.training.pretrain import atom_targets, learnable_rows
from mofgap.training.unseen import substitute_unseen
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import fit_novelty
from mofgap.whole_file import sha256_of

LEVELS = {"pbe_gap_ev": "PBE-D3(BJ)", "hse06_gap_ev": "HSE06 at PBE-D3(BJ) geometry"}
"""Columns of gaps, and their levels of theory."""

MIN_DISTANCE = 0.3
"""Noise moves no two atoms closer than this, angstrom."""


@schema
class JointConfig:
    """How a network is trained on several columns at once."""

    epochs: int = Field(15, description="Passes over the training structures.", ge=1)
    batch_atoms: int = Field(1250, description="Size of a batch.", ge=1, json_schema_extra={"unit": "atoms"})
    learning_rate: float = Field(8e-4, description="Peak rate of all weights.", ge=0.0)
    weight_decay: float = Field(0.03, description="Of matrices, by AdamW.", ge=0.0)
    warmup: float = Field(0.04, description="Share of the steps in which the rate rises.", ge=0.0, le=1.0)
    dropout: float = Field(0.1, description="Rate of dropout in the encoder's blocks.", ge=0.0, lt=1.0)
    atom_weight: float = Field(0.2, description="Weight of the atoms' targets beside the gaps.", ge=0.0)
    distance_noise: float = Field(
        0.0,
        description="Largest standard deviation of the noise on a structure's distances.",
        ge=0.0,
        json_schema_extra={"unit": "angstrom"},
    )
    tolerance: float = Field(
        0.0,
        description="Atoms are computed once where distances around them differ by less than this; 0 "
        "computes every atom.",
        ge=0.0,
        json_schema_extra={"unit": "angstrom"},
    )
    head_hidden: int = Field(256, description="Width of the gap heads.", ge=1)
    seed: int = Field(11, description="Seed of initialisation, order and dropout.", ge=0, le=MAX_SEED)


class JointTraining(L.LightningModule):  # type: ignore[misc]
    """Lightning's view of a ``JointNetwork``."""

    def __init__(
        self, network: JointNetwork, gap_ev: Tensor, atoms: Tensor, config: JointConfig, total_steps: int
    ) -> None:
        super().__init__()
        self.network, self.config, self.total_steps = network, config, total_steps
        self.gap_ev, self.atoms = gap_ev, atoms

    def _losses(self, batch: StoreBatch) -> tuple[Tensor, Tensor]:
        gap_ev, atoms = self.gap_ev[batch.position], self.atoms[batch.row]
        return self.network.loss(
            batch, gap_ev.to(self.device), atoms.to(self.device), self.config.atom_weight
        )

    def training_step(self, batch: StoreBatch, batch_idx: int) -> Tensor:
        """Descend the loss on one batch."""
        seed_step(self, self.config.seed)
        if self.config.distance_noise:
            batch = with_noise(batch, self.config.distance_noise)
        loss, error = self._losses(batch)
        if n_known := self._n_known(batch):
            self.log("train_mae_ev", error, batch_size=n_known, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: StoreBatch, batch_idx: int) -> None:
        """Log the loss, and the error of the first column."""
        loss, error = self._losses(batch)
        self.log("val_loss", loss, batch_size=batch.n_graphs)
        if n_known := self._n_known(batch):
            self.log("val_mae_ev", error, batch_size=n_known)

    def _n_known(self, batch: StoreBatch) -> int:
        """Structures that have a label of the first column; errors of others are none."""
        return int((~self.gap_ev[batch.position, 0].isnan()).sum())

    def configure_optimizers(self) -> Any:
        """AdamW, without decay of biases and scales, under a warm-up and a cosine."""
        weights = list(self.network.parameters())
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate)
        return warmup_cosine(optimizer, self.total_steps, self.config.warmup)


def with_noise(batch: StoreBatch, most_angstrom: float) -> StoreBatch:
    """The same structures with Gaussian noise on distances, so that the model sees no exactly relaxed one.

    Args:
        batch: The structures.
        most_angstrom: A structure's noise has this standard deviation times the square of a uniform number.
            Half of the structures get less than a quarter of it.
    """
    std = most_angstrom * torch.rand(batch.n_graphs, device=batch.distance.device).square()
    noise = std[batch.structure_idx, None] * torch.randn_like(batch.distance)
    return replace(batch, distance=(batch.distance + noise).clamp_min(MIN_DISTANCE))


def begin_models(
    found: PretrainedEncoder,
    config: JointConfig,
    gap_ev: Tensor,
    weights: dict[str, Tensor],
    earlier: Sequence[Sequence[Path]],
) -> list[GapModel]:
    """A gap model for each column, all on one encoder.

    Args:
        found: The pretrained encoder.
        config: How they will be trained.
        gap_ev: (n_structures, n_columns) labels of the training structures; NaN where there is none.
        weights: Of the pretrained encoder.
        earlier: For each column, model folders of earlier trainings; none starts anew.

    Raises:
        ModelError: If a folder of ``earlier`` holds no model, or its model has other settings than this
            training.
    """
    settings = found.settings | {"virtual_node": True, "dropout": config.dropout}
    torch.manual_seed(config.seed)
    encoder = build_encoder(found.architecture, settings)
    encoder.load_state_dict(weights | {k: v for k, v in encoder.state_dict().items() if k not in weights})
    made_of = GapModelConfig(
        "full", found.architecture, settings, config.head_hidden, substitutes=found.substitutes
    )
    models = []
    for label in gap_ev.T:
        model = GapModel(made_of)
        model.backbone = encoder
        known = label[~label.isnan()]
        model.gap_mean_ev.copy_(known.mean())
        model.gap_std_ev.copy_(known.std())
        models.append(model)
    for model, folders in zip(models, earlier, strict=False):
        go_on(model, folders)
    return models


def go_on(model: GapModel, folders: Sequence[Path]) -> None:
    """Give a model the weights of an earlier training, or the mean of those of several.

    Raises:
        ModelError: If one of ``folders`` holds no model, or its model has other settings than ``model``.
    """
    states = []
    for folder in folders:
        earlier = read_model(folder)[0]
        if earlier.config != replace(model.config, substitutes=earlier.config.substitutes):
            raise ModelError(f"{folder} has other settings than this training, which cannot go on from it")
        states.append(earlier.state_dict())
    model.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})


def train_joint(
    frame: pd.DataFrame,
    folder: Path,
    found: PretrainedEncoder,
    config: JointConfig,
    *,
    levels: Mapping[str, str] = LEVELS,
    start: Sequence[Path] = (),
    cache: Path | None = None,
    resume: bool = False,
    compute: Compute = DEFAULT_COMPUTE,
) -> list[Path]:
    """Train on the rows of split ``train``, choosing the epoch on split ``val``; write a folder a column.

    Args:
        frame: A table with columns of gaps, the atoms' targets, and ``split``.
        folder: Where the training lies, and the model folders.
        found: The pretrained encoder to start from.
        config: How to train.
        levels: Columns of the gaps, and their levels of theory.
        start: Folders of earlier trainings. The mean of their weights goes on; the head of the atoms' targets
            begins anew. None starts from the pretrained encoder.
        cache: Folder of cached graphs.
        resume: Go on from the last checkpoint.
        compute: What it runs on.

    Returns:
        The model folders, in the order of the columns.

    Raises:
        TableError: If ``frame`` has no rows of split train or val, lacks a value for an atom or a column of
            ``levels`` with gaps in eV, or holds a structure that is refused.
        ModelError: If a folder of ``start`` lacks the model of a column, or it has other settings than this.
        TrainingError: If ``folder`` holds a different training, ``folder`` holds any training and ``resume``
            is False, or no epoch ended with a finite loss.
    """
    frame = learnable_rows(frame)
    gap_ev = _gaps(frame, list(levels))
    atoms, weights = atom_targets(frame), load_file(found.weights)
    earlier = [[folder / name for folder in start] for name in levels] if start else []
    lock(folder, _made_of(frame, found, config, gap_ev, atoms, earlier) | compute.decisive, resume=resume)
    learnt, held_out = positions(frame, "train"), positions(frame, "val")
    models = begin_models(found, config, gap_ev[learnt], weights, earlier)
    store = cached_store(frame, models[0].graph_config, cache)
    network = JointNetwork(models, atoms[store.atom_rows(learnt)])
    distinct, atoms = _without_repeats(store, atoms, config.tolerance)
    train = loader(distinct, learnt, config.batch_atoms, config.seed)
    val = loader(distinct, held_out, config.batch_atoms, None)
    module = JointTraining(network, gap_ev, atoms, config, n_steps(train, config.epochs, compute))
    best = fit(
        module, train, val, folder, epochs=config.epochs, monitor="val_mae_ev", resume=resume, compute=compute
    )
    restore(module, best)
    network.cpu().eval()
    return [
        write_member(
            folder / name, model, About(f"{folder.name}-{name}", level_of_theory=level), store, frame
        )
        for model, (name, level) in zip(models, levels.items(), strict=True)
    ]


def _gaps(frame: pd.DataFrame, columns: Sequence[str]) -> Tensor:
    """(n_structures, n_columns) labels, eV; NaN where there is none."""
    for name in columns:
        if name not in frame:
            raise TableError(no_column(name, frame.columns))
        known = frame[name][frame.split == "train"].dropna()
        if len(known) < 2:
            raise TableError(f"{name}: {counted(len(known), 'gap')} in split train; two at least are needed")
        if unit := other_unit(known[known > 0].tolist()):
            raise TableError(f"{name} is not in eV: {unit}")
    if frame[columns[0]][frame.split == "val"].isna().all():
        raise TableError(f"{columns[0]}: no gap in split val, whose errors choose the epoch")
    return torch.tensor(frame[columns].to_numpy(dtype=np.float64), dtype=torch.float32)


def _without_repeats(store: GraphStore, atoms: Tensor, tolerance: float) -> tuple[GraphStore, Tensor]:
    """Graphs with one atom for all of equal surroundings, and the mean of their targets.

    Args:
        store: The graphs.
        atoms: (n_atoms_total, n_targets) targets of their atoms.
        tolerance: See `JointConfig`; 0 returns graphs and targets as they are.
    """
    if not tolerance:
        return store, atoms
    distinct, index = distinct_store(store, tolerance)
    total = atoms.new_zeros(len(distinct.atomic_number), atoms.shape[1]).index_add_(0, index, atoms)
    return distinct, total / torch.bincount(index)[:, None]


def _made_of(
    frame: pd.DataFrame,
    found: PretrainedEncoder,
    config: JointConfig,
    gap_ev: Tensor,
    atoms: Tensor,
    earlier: Sequence[Sequence[Path]],
) -> dict[str, str]:
    """Digests of all that the weights depend on, but for what it runs on."""
    return {
        "settings": digest(config),
        "start": sha256_of(found.weights),
        **table_digests(frame),
        "labels": hashlib.sha256(gap_ev.numpy().tobytes() + atoms.numpy().tobytes()).hexdigest(),
        "earlier trainings": digest([[read_config(each)["digest"] for each in of] for of in earlier]),
    }


def write_member(folder: Path, model: GapModel, about: About, store: GraphStore, frame: pd.DataFrame) -> Path:
    """Write the model folder of a column, without error bars; unseen elements are read as similar ones."""
    model.eval().requires_grad_(False)
    trained = positions(frame, "train")
    substitute_unseen(model, frame.atomic_numbers.iloc[trained])
    features = torch.cat([model.frozen_features(b) for b in store.batches(trained, BATCH_ATOMS)]).numpy()
    rows = frame.iloc[trained]
    novelty = fit_novelty(features, rows.atomic_numbers.tolist(), rows.structure_id.tolist())
    save_model(folder, model, about, Calibration.raw(), novelty)
    return folder


def main() -> None:
    """Train on a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="Parquet table of structures, gaps and atoms' targets.")
    parser.add_argument("-o", "--output", type=Path, default=Path("joint"))
    parser.add_argument("--encoder", default=DEFAULT_ENCODER)
    parser.add_argument(
        "--from",
        dest="start",
        nargs="+",
        type=Path,
        default=[],
        help="Earlier trainings: their mean goes on.",
    )
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--precision", default="32-true")
    for name, setting in settings_of(JointConfig).items():
        kind = type(setting.default)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=setting.default)
    asked = vars(parser.parse_args())
    try:
        config, compute = part(JointConfig, asked), Compute(precision=asked["precision"])
        written = train_joint(
            read_table(asked["table"]),
            asked["output"],
            find_encoder(asked["encoder"]),
            config,
            start=asked["start"],
            cache=asked["cache"],
            resume=asked["resume"],
            compute=compute,
        )
    except (ConfigurationError, ModelError, TableError, TrainingError, OSError) as error:
        parser.error(str(error))
    for folder in written:
        sys.stderr.write(f"mofgap: wrote {folder}\n")


if __name__ == "__main__":
    main()
