"""Band gaps of metal-organic frameworks, by a small network on vectors of mofgap's frozen encoder.

The network was pretrained on charges, bond orders and magnetic moments of the training structures' atoms.
Adapters sit on its layers, after the pooling over atoms: a training takes seconds.

Two tasks, on two splits: the public one, and one that keeps families and formulas on one side. The public
test rows are left alone: the public task chooses and judges by rows of val.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import gemmi
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.claims.config import ClaimsConfig, MofConfig
from benchmarks.claims.pooled import pooled
from benchmarks.claims.task import Backbone, Split, Task
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import table_crystals
from mofgap.gap.head import LOG_STD_RANGE
from mofgap.study.config import SplitConfig
from mofgap.study.splits import assign, order

Indices = NDArray[np.intp]

OF_ATOMS = (
    *("pbe_ddec6_charge_e", "pbe_cm5_charge_e", "pbe_ddec6_bond_order"),
    *("pbe_ddec6_spin_density", "pbe_magmom_mu_b"),
)
"""Columns of numbers of atoms, from the same calculation as the gap."""
STATISTICS = (np.mean, np.std, np.min, np.max)
PRETRAINING_RATE = 1e-3
PRETRAINING_BATCH = 256


class GapNetwork(nn.Module):
    """A perceptron that gives the mean of a gap and the logarithm of its standard deviation.

    Args:
        n_features: Width of a structure's vector.
        width: Of the hidden layers.
        n_layers: Number of hidden layers.
        gaps_ev: Gaps of the training structures, eV, whose mean and spread the head starts from.
    """

    def __init__(self, n_features: int, width: int, n_layers: int, gaps_ev: Tensor) -> None:
        super().__init__()
        widths = [n_features] + n_layers * [width]
        self.hidden = nn.ModuleList(nn.Linear(*each) for each in pairwise(widths))
        self.head = nn.Linear(width, 2)
        self.mean_ev, self.std_ev = float(gaps_ev.mean()), float(gaps_ev.std())

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, 2) gaps in eV and logarithms of their standard deviations, from (n, n_features) vectors."""
        mean, log_std = self.head(self.activations(vectors)).unbind(1)
        log_std = log_std.clamp(*LOG_STD_RANGE) + np.log(self.std_ev)
        return torch.stack([self.mean_ev + self.std_ev * mean, log_std], 1)

    def activations(self, vectors: Tensor) -> Tensor:
        """(n, width) what the head gets."""
        x = vectors
        for layer in self.hidden:
            x = nn.functional.silu(layer(x))
        return x


@dataclass(frozen=True)
class Perceptron:
    """A backbone: the pretrained network.

    Attributes:
        pretrained: Whose hidden layers are copied.
        target_modules: Layers to adapt.
        head: Name of the new last layer.
    """

    pretrained: GapNetwork
    target_modules: tuple[str, ...] = (r"hidden\.\d+",)
    head: str = "head"

    @property
    def n_features(self) -> int:
        """Width of alpha's input."""
        width: int = self.pretrained.hidden[0].in_features  # type: ignore[assignment]
        return width

    def features(self, vectors: Tensor) -> Tensor:
        """The vectors themselves."""
        return vectors

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """A copy of the hidden layers, and a head of this seed."""
        made = copy.deepcopy(self.pretrained)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made.head = nn.Linear(made.head.in_features, n_classes)
        return made


@dataclass(frozen=True)
class Rows:
    """The rows of the table that a task learns from, chooses by, is judged by, and has as shifted inputs."""

    train: Indices
    val: Indices
    test: Indices
    shifted: Mapping[str, Indices]


def backbones(settings: ClaimsConfig) -> Mapping[str, Backbone]:
    """The network of each task: they differ in the structures that they were pretrained on."""
    config = _config(settings)
    return {name: Perceptron(pretrained(name, config)) for name in SPLITS}


def tasks(settings: ClaimsConfig) -> list[Task]:
    """A task for each split."""
    config = _config(settings)
    return [_task(name, config) for name in SPLITS]


def _config(settings: ClaimsConfig) -> MofConfig:
    assert settings.mofs is not None
    return settings.mofs


def _task(name: str, config: MofConfig) -> Task:
    frame, rows, scale = _frame(config), _rows(name, config), _scale(name, config)
    first = rows.test[: config.n_shifted]
    crystals, rng = list(table_crystals(frame.iloc[first])), np.random.default_rng(config.seed)
    moved = [displaced(crystal, config.displacement_angstrom, rng) for crystal in crystals]
    shifted = {part: _split(own, name, config) for part, own in rows.shifted.items()}
    shifted["displaced"] = Split((scale(_pooled(moved, config)),), _gaps(frame, first))
    shifted["no-hydrogen"] = Split((scale(_pooled([bare(each) for each in crystals], config)),), None)
    train, val, test = (_split(own, name, config) for own in (rows.train, rows.val, rows.test))
    return Task(name, name, 2, train, val, test, shifted, kind="gaps")


def _split(rows: Indices, name: str, config: MofConfig) -> Split:
    return Split((_scale(name, config)(_vectors(config)[rows]),), _gaps(_frame(config), rows))


def _gaps(frame: pd.DataFrame, rows: Indices) -> Tensor:
    return torch.tensor(frame.pbe_gap_ev.to_numpy()[rows], dtype=torch.float32)


@cache
def _frame(config: MofConfig) -> pd.DataFrame:
    """All rows but the public test rows."""
    frame = pd.read_parquet(config.table).rename(columns={"qmof_id": "structure_id"})
    return frame[frame.split != "test"].reset_index(drop=True)


@cache
def _rows(name: str, config: MofConfig) -> Rows:
    return SPLITS[name](_frame(config), config)


def public(frame: pd.DataFrame, config: MofConfig) -> Rows:
    """All public train rows to learn from; the public val rows to choose and to be judged by."""
    rows = order(frame.structure_id.tolist(), config.seed)
    is_train = (frame.split == "train").to_numpy()
    held = rows[~is_train[rows]]
    return Rows(np.flatnonzero(is_train), held[: config.n_val], held[config.n_val :], {})


def grouped(frame: pd.DataFrame, config: MofConfig) -> Rows:
    """Groups of formula and family, each on one side alone; structures with withheld elements on none."""
    withheld = {gemmi.Element(symbol).atomic_number for symbol in config.withheld}
    is_unseen = frame.atomic_numbers.map(lambda numbers: bool(withheld & set(numbers.tolist()))).to_numpy()
    rows = order(frame.structure_id.tolist(), config.seed)
    seen, unseen = rows[~is_unseen[rows]], rows[is_unseen[rows]]
    how = SplitConfig(kind="grouped", n_test=config.n_test)
    part = assign(frame.iloc[seen].reset_index(drop=True), how, config.seed).to_numpy()
    train, val, test = (seen[part == each] for each in ("train", "val", "test"))
    return Rows(train, val, test, {"unseen-elements": unseen[: config.n_shifted]})


SPLITS: dict[str, Callable[[pd.DataFrame, MofConfig], Rows]] = {"public": public, "grouped": grouped}


def displaced(crystal: Crystal, std_angstrom: float, rng: np.random.Generator) -> Crystal:
    """The crystal with each coordinate of each atom moved by Gaussian noise of this spread."""
    moved = rng.normal(0, std_angstrom, crystal.frac_coords.shape) @ np.linalg.inv(crystal.cell)
    return Crystal(crystal.cell, crystal.frac_coords + moved, crystal.atomic_numbers)


def bare(crystal: Crystal) -> Crystal:
    """The crystal without its hydrogen atoms, as many files of experiments are."""
    kept = crystal.atomic_numbers != 1
    return Crystal(crystal.cell, crystal.frac_coords[kept], crystal.atomic_numbers[kept])


def _pooled(crystals: Sequence[Crystal], config: MofConfig) -> Tensor:
    return pooled(crystals, config.encoder, config.cache)


@cache
def _vectors(config: MofConfig) -> Tensor:
    return _pooled(list(table_crystals(_frame(config))), config)


@cache
def _scale(name: str, config: MofConfig) -> Callable[[Tensor], Tensor]:
    """Principal components of standardised vectors, as the training structures give them.

    Those of large variance come first; the mean of the variances is one.
    """
    vectors = _vectors(config)[_rows(name, config).train]
    std, mean = torch.std_mean(vectors, dim=0)
    std = std.clamp_min(1e-6)
    values, directions = torch.linalg.eigh(((vectors - mean) / std).double().T.cov())
    kept = directions[:, -config.n_components :].flip(1)
    projection = (kept / values[-config.n_components :].mean().sqrt()).float()
    return lambda vectors: (vectors - mean) / std @ projection


def pretrained(name: str, config: MofConfig) -> GapNetwork:
    """The network after some passes over numbers of the training structures' atoms; gaps are not among them.

    It gives mean, standard deviation, least and largest of each number over the atoms of a structure.
    """
    frame, rows = _frame(config), _rows(name, config).train
    gaps, vectors = _gaps(frame, rows), _split(rows, name, config).inputs[0]
    targets = of_atoms(frame.iloc[rows])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = GapNetwork(vectors.shape[1], config.width, config.n_layers, gaps)
        if config.pretrained:
            _pretrain(network, vectors, targets, config.passes)
    return network.requires_grad_(True)


def _pretrain(network: GapNetwork, vectors: Tensor, targets: Tensor, passes: int) -> None:
    head = nn.Linear(network.head.in_features, targets.shape[1])
    optimizer = torch.optim.AdamW([*network.hidden.parameters(), *head.parameters()], lr=PRETRAINING_RATE)
    n_steps = passes * -(-len(vectors) // PRETRAINING_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PRETRAINING_RATE, n_steps)
    for _ in range(passes):
        for rows in torch.randperm(len(vectors)).split(PRETRAINING_BATCH):
            loss = nn.functional.mse_loss(head(network.activations(vectors[rows])), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def of_atoms(frame: pd.DataFrame) -> Tensor:
    """(n, 4 x len(OF_ATOMS)) numbers of atoms by structure, standardised and cut at five deviations."""
    found = np.array(
        [
            [how(values) for column in OF_ATOMS for values in [row[column]] for how in STATISTICS]
            for row in frame[list(OF_ATOMS)].to_dict("records")
        ]
    )
    scaled = (found - found.mean(0)) / np.maximum(found.std(0), 1e-6)
    return torch.from_numpy(scaled.clip(-5, 5)).float()
