"""Band gaps of metal-organic frameworks, by the last layers of mofgap's pretrained crystal transformer.

Two tasks, on two splits: the public one, and one that keeps families and formulas on one side. The public
test rows are left alone: the public task is judged by rows of val. Shifted sets are structures with elements
that no training saw, and test structures whose atoms are moved at random.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import gemmi
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.claims.config import ClaimsConfig, MofConfig
from benchmarks.claims.task import Backbone, Split, Task
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.graph import first_atoms
from mofgap.crystals.store import GraphStore, build_store
from mofgap.datasets.groups import group_of
from mofgap.encoders.crystal_transformer import CrystalTransformer
from mofgap.encoders.registry import build_encoder
from mofgap.gap.head import GapHead, pool
from mofgap.study.splits import order

TARGETS = (r"(out|up|down)",)
"""Layers to adapt: those of the last block after its attention."""
HEAD_HIDDEN = 128
"""Width of the gap head, as in mofgap's own models."""
BATCH_ATOMS = 4000
"""Atoms that the frozen part is run on at once."""


@dataclass(frozen=True)
class Crystals(Split):
    """Structures after the frozen part, and their gaps.

    Its ``inputs`` hold the atoms of all structures one after the other: ``ptr`` (n + 1,) the first atom of
    each, ``x`` (n_atoms, width) what the last block gets, and ``attended`` (n_atoms, width) what its
    attention gathers from there.
    """

    def __len__(self) -> int:
        """Number of structures."""
        return len(self.inputs[0]) - 1

    def taken(self, rows: Tensor) -> Crystals:
        """Some structures, by their indices."""
        ptr, *by_atom = self.inputs
        n_atoms = ptr.diff()[rows]
        own = first_atoms(n_atoms)
        atoms = torch.arange(int(own[-1])) + torch.repeat_interleave(ptr[rows] - own[:-1], n_atoms)
        labels = None if self.labels is None else self.labels[rows]
        return Crystals((own, *(values[atoms] for values in by_atom)), labels)


class LateLayers(nn.Module):
    """What follows the attention of the encoder's last block, and a new gap head.

    Args:
        encoder: Pretrained; its layers are copied.
        gaps_ev: Gaps of the training structures, eV, whose mean and spread the head starts from.
    """

    def __init__(self, encoder: CrystalTransformer, gaps_ev: Tensor) -> None:
        super().__init__()
        block: Any = copy.deepcopy(encoder.blocks[-1])
        self.out, self.norm_ffn, self.up, self.down = block.out, block.norm_ffn, block.up, block.down
        self.norm = copy.deepcopy(encoder.norm)
        self.head = GapHead(2 * encoder.width, HEAD_HIDDEN)
        self.mean_ev, self.std_ev = float(gaps_ev.mean()), float(gaps_ev.std())

    def forward(self, ptr: Tensor, x: Tensor, attended: Tensor) -> Tensor:
        """(n, 2) gaps in eV and logarithms of their standard deviations, from the inputs of `Crystals`."""
        y = x + self.out(attended)
        y = y + self.down(nn.functional.silu(self.up(self.norm_ffn(y))))
        features = torch.stack([x, self.norm(y)], 1)
        mean, log_std = self.head(features, structures(ptr), len(ptr) - 1)
        return torch.stack([self.mean_ev + self.std_ev * mean, log_std + np.log(self.std_ev)], 1)


def structures(ptr: Tensor, *_: Tensor) -> Tensor:
    """(n_atoms,) structure of each atom."""
    return torch.repeat_interleave(ptr.diff())


@dataclass(frozen=True)
class LateEncoder:
    """A backbone: the last layers of the encoder, whose earlier ones are run once.

    Attributes:
        encoder: The pretrained encoder.
        gaps_ev: Gaps of the training structures.
        target_modules: Layers to adapt.
        head: Name of the gap head.
        last: Name of its last layer.
        pooled: Name of its layer that gets pooled features.
    """

    encoder: CrystalTransformer
    gaps_ev: Tensor
    target_modules: tuple[str, ...] = TARGETS
    head: str = "head"
    last: str = "head.out"
    pooled: str = "head.hidden"

    @property
    def n_features(self) -> int:
        """Width of alpha's input."""
        return 3 * self.encoder.width

    def features(self, ptr: Tensor, x: Tensor, *_: Tensor) -> Tensor:
        """(n, n_features): mean, largest and smallest of what the last block gets."""
        return pool(x, structures(ptr), len(ptr) - 1)

    rows = staticmethod(structures)

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """A copy of the layers, and a head of this seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LateLayers(self.encoder, self.gaps_ev)


def backbones(settings: ClaimsConfig) -> Mapping[str, Backbone]:
    """The network for each task: they differ in the gaps that the head starts from."""
    config = _config(settings)
    return {
        name: LateEncoder(_encoder(config.encoder), _gaps(parts["train"]))
        for name, parts in _splits(config).items()
    }


def tasks(settings: ClaimsConfig) -> list[Task]:
    """A task for each split."""
    config = _config(settings)
    return [_task(name, parts, config) for name, parts in _splits(config).items()]


def _config(settings: ClaimsConfig) -> MofConfig:
    assert settings.mofs is not None
    return settings.mofs


def _task(name: str, parts: Mapping[str, pd.DataFrame], config: MofConfig) -> Task:
    encoder = _encoder(config.encoder)
    found = {part: list(table_crystals(frame)) for part, frame in parts.items()}
    rng = np.random.default_rng(config.seed)
    found["displaced"] = [
        displaced(crystal, config.displacement_angstrom, rng) for crystal in found["test"][: config.n_shifted]
    ]
    gaps = {part: _gaps(frame) for part, frame in parts.items()}
    gaps["displaced"] = gaps["test"][: config.n_shifted]
    made = {
        part: through_frozen(build_store(each, encoder.graph_config), encoder, gaps[part])
        for part, each in found.items()
    }
    shifted = {part: made[part] for part in ("unseen-elements", "displaced")}
    return Task(name, name, 2, made["train"], made["val"], made["test"], shifted, kind="gaps")


@cache
def _splits(config: MofConfig) -> dict[str, dict[str, pd.DataFrame]]:
    """Rows of each task: train, val, test and structures with unseen elements."""
    frame = pd.read_parquet(config.table).rename(columns={"qmof_id": "structure_id"})
    frame = frame[(frame.split != "test") & (frame.n_atoms <= config.max_atoms)].reset_index(drop=True)
    frame = frame.iloc[order(frame.structure_id.tolist(), config.seed)].reset_index(drop=True)
    withheld = {gemmi.Element(symbol).atomic_number for symbol in config.withheld}
    is_unseen = frame.atomic_numbers.map(lambda numbers: bool(withheld & set(numbers.tolist())))
    unseen, seen = frame[is_unseen].head(config.n_shifted), frame[~is_unseen]
    return {
        name: {**parts, "unseen-elements": unseen}
        for name, parts in (("public", public(seen, config)), ("grouped", grouped(seen, config)))
    }


def public(frame: pd.DataFrame, config: MofConfig) -> dict[str, pd.DataFrame]:
    """Train and val from the public train rows, test from the public val rows; the first of each."""
    train, test = frame[frame.split == "train"], frame[frame.split == "val"]
    n, n_val = config.n_train, config.n_val
    return {"train": train[:n], "val": train[n : n + n_val], "test": test[: config.n_test]}


def grouped(frame: pd.DataFrame, config: MofConfig) -> dict[str, pd.DataFrame]:
    """Whole groups of formula and family to test, then val, then train; no group is on two sides."""
    group = group_of(frame).to_numpy()
    sizes = {"test": config.n_test, "val": config.n_val, "train": config.n_train}
    parts: dict[str, list[int]] = {name: [] for name in sizes}
    for _, rows in pd.Series(range(len(frame))).groupby(group, sort=False):
        own: list[int] = rows.tolist()
        name = next((name for name, size in sizes.items() if len(parts[name]) + len(own) <= size), None)
        if name is not None:
            parts[name] += own
    return {name: frame.iloc[own] for name, own in parts.items()}


def displaced(crystal: Crystal, std_angstrom: float, rng: np.random.Generator) -> Crystal:
    """The crystal with each coordinate of each atom moved by Gaussian noise of this spread."""
    moved = rng.normal(0, std_angstrom, crystal.frac_coords.shape) @ np.linalg.inv(crystal.cell)
    return Crystal(crystal.cell, crystal.frac_coords + moved, crystal.atomic_numbers)


@torch.no_grad()
def through_frozen(store: GraphStore, encoder: CrystalTransformer, gaps_ev: Tensor) -> Crystals:
    """Structures after the attention of the last block."""
    last: Any = encoder.blocks[-1]
    xs, attended = [], []
    handle = last.out.register_forward_pre_hook(lambda _, args: attended.append(args[0]))
    try:
        for batch in store.batches(range(len(store)), BATCH_ATOMS):
            xs.append(encoder(batch)[:, -2])
    finally:
        handle.remove()
    return Crystals((store.ptr, torch.cat(xs), torch.cat(attended)), gaps_ev)


def _gaps(frame: pd.DataFrame) -> Tensor:
    return torch.tensor(frame.pbe_gap_ev.to_numpy(), dtype=torch.float32)


@cache
def _encoder(name: str) -> CrystalTransformer:
    from safetensors.torch import load_file

    from mofgap.training.encoder_folder import find_encoder

    found = find_encoder(name)
    encoder = build_encoder(found.architecture, found.settings)
    encoder.load_state_dict(load_file(found.weights))
    assert isinstance(encoder, CrystalTransformer)
    return encoder.eval().requires_grad_(False)
