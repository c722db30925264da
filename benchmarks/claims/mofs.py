"""Band gaps of metal-organic frameworks, by mofgap's pretrained crystal transformer and a small gap network.

The gap network was pretrained on charges, bond orders and magnetic moments of the training structures' atoms.
Adapters sit on its layers, after the pooling over atoms; and on the last block of the transformer before it,
where the setting ``network`` is ``transformer``.

There are two splits: the public one, and one that keeps families and formulas on one side. The public test
rows are left alone: the public task chooses and judges by rows of val.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.claims.config import ClaimsConfig, MofConfig
from benchmarks.claims.gap_network import GapNetwork, Perceptron, of_atoms, pretrain
from benchmarks.claims.late_block import Atoms, LateBlock, Scale, atoms_of
from benchmarks.claims.pooled import pooled
from benchmarks.claims.task import Backbone, Split, Task
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.elements import atomic_number
from mofgap.study.config import SplitConfig
from mofgap.study.splits import assign, order

Indices = NDArray[np.intp]


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
    return {name: _backbone(name, config) for name in config.splits}


def tasks(settings: ClaimsConfig) -> list[Task]:
    """A task for each split."""
    config = _config(settings)
    return [_task(name, config) for name in config.splits]


def _config(settings: ClaimsConfig) -> MofConfig:
    assert settings.mofs is not None
    return settings.mofs


def _backbone(name: str, config: MofConfig) -> Backbone:
    network = pretrained(name, config)
    if config.network == "perceptron":
        return Perceptron(network)
    return LateBlock(_atoms(config), _scale(name, config), network)


def _task(name: str, config: MofConfig) -> Task:
    rows = _rows(name, config)
    gaps = torch.tensor(_frame(config).pbe_gap_ev.to_numpy(), dtype=torch.float32)

    def split(positions: Indices, labelled: Indices | None) -> Split:
        """Structures by position, with the gaps of rows of the table."""
        labels = None if labelled is None else gaps[labelled]
        if config.network == "transformer":
            return Split((torch.from_numpy(positions),), labels)
        return Split((_scale(name, config)(_vectors(config)[positions]),), labels)

    first = rows.test[: config.n_shifted]
    displaced, without_hydrogen = _changed(name, config)
    shifted = {part: split(own, own) for part, own in rows.shifted.items()}
    shifted |= {"displaced": split(displaced, first), "no-hydrogen": split(without_hydrogen, None)}
    train, val, test = (split(own, own) for own in (rows.train, rows.val, rows.test))
    return Task(name, name, 2, train, val, test, shifted, kind="gaps")


@cache
def _groups(config: MofConfig) -> list[list[Crystal]]:
    """The structures of the table, then of each split the displaced ones and those without hydrogen."""
    known = list(table_crystals(_frame(config)))
    groups = [known]
    for name in config.splits:
        crystals = [known[i] for i in _rows(name, config).test[: config.n_shifted]]
        rng = np.random.default_rng(config.seed)
        groups.append([displaced(crystal, config.displacement_angstrom, rng) for crystal in crystals])
        groups.append([bare(crystal) for crystal in crystals])
    return groups


def _changed(name: str, config: MofConfig) -> tuple[Indices, Indices]:
    """Positions of a split's displaced structures, and of those without hydrogen."""
    ends = np.cumsum([len(group) for group in _groups(config)])
    place = 2 * config.splits.index(name)
    return np.arange(ends[place], ends[place + 1]), np.arange(ends[place + 1], ends[place + 2])


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
    withheld = set(map(atomic_number, config.withheld))
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


@cache
def _vectors(config: MofConfig) -> Tensor:
    return torch.cat([pooled(group, config.encoder, config.cache) for group in _groups(config)])


@cache
def _atoms(config: MofConfig) -> Atoms:
    return atoms_of(_groups(config), config.encoder, config.cache)


@cache
def _scale(name: str, config: MofConfig) -> Scale:
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
    gaps = torch.tensor(frame.pbe_gap_ev.to_numpy()[rows], dtype=torch.float32)
    vectors = _scale(name, config)(_vectors(config)[rows])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = GapNetwork(vectors.shape[1], config.width, config.n_layers, gaps)
        if config.pretrained:
            pretrain(network, vectors, of_atoms(frame.iloc[rows]), config.passes)
    return network.requires_grad_(True)
