"""A small network that gives a gap and its spread from the vector of a structure, and its pretraining."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mofgap.gap.head import LOG_STD_RANGE

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

    @property
    def n_features(self) -> int:
        """Width of a structure's vector."""
        width: int = self.hidden[0].in_features  # type: ignore[assignment]
        return width

    def with_new_head(self, n_outputs: int, seed: int) -> GapNetwork:
        """A copy of the hidden layers, and a head of this seed."""
        made = copy.deepcopy(self)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made.head = nn.Linear(made.head.in_features, n_outputs)
        return made


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
        return self.pretrained.n_features

    def features(self, vectors: Tensor) -> Tensor:
        """The vectors themselves."""
        return vectors

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """A copy of the hidden layers, and a head of this seed."""
        return self.pretrained.with_new_head(n_classes, seed)


def pretrain(network: GapNetwork, vectors: Tensor, targets: Tensor, passes: int) -> None:
    """Train the hidden layers in place to give numbers of atoms.

    Args:
        network: New.
        vectors: (n, n_features) of the training structures.
        targets: (n, k) of `of_atoms`.
        passes: Over the structures.
    """
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
