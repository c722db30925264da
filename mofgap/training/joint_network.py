"""A network of one encoder with a gap head for each level of theory and a head for the atoms' targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.balora import laplace_nll
from mofgap.crystals.graph import CrystalGraph
from mofgap.crystals.store import StoreBatch
from mofgap.gap.model import GapModel
from mofgap.training.atoms import BETA


class JointNetwork(nn.Module):
    """An encoder of which all weights move, a gap head for each column, and one for the atoms' targets.

    Args:
        models: A gap model of the method ``full`` for each column; all get the encoder of the first.
        atoms: (n_atoms, n_targets) targets of the training atoms, in their own units.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, models: Sequence[GapModel], atoms: Tensor) -> None:
        super().__init__()
        self.models = list(models)  # not registered: they share the encoder
        self.encoder = models[0].encoder
        self.heads = nn.ModuleList(model.head for model in models)
        n_features = self.encoder.n_outputs * self.encoder.width
        scale = atoms.std(0)
        self.atoms = nn.Sequential(nn.Linear(n_features, 128), nn.SiLU(), nn.Linear(128, len(scale)))
        self.register_buffer("centre", atoms.mean(0))
        self.register_buffer("scale", torch.where(scale == 0, 1.0, scale))

    def forward(self, batch: CrystalGraph) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """Mean and log std of each column in its scale, and the atoms' targets (n_atoms, n_targets)."""
        features = self.encoder(batch)
        gaps = [head(features, batch) for head in self.heads]
        return gaps, self.atoms(features.flatten(1)).float()

    def loss(
        self, batch: StoreBatch, gap_ev: Tensor, atoms: Tensor, atom_weight: float
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the mean absolute error of the first column in eV.

        Args:
            batch: The structures.
            gap_ev: (n_graphs, n_columns) labels; NaN where there is none.
            atoms: (n_atoms, n_targets) targets of the atoms, in their own units.
            atom_weight: Weight of these.
        """
        gaps, told = self(batch)
        loss = atom_weight * F.smooth_l1_loss(told, (atoms - self.centre) / self.scale, beta=BETA)
        errors = []
        for model, (mean, log_std), label in zip(self.models, gaps, gap_ev.T, strict=True):
            known = ~label.isnan()
            target = (label[known] - model.gap_mean_ev) / model.gap_std_ev
            spread = log_std[known].float()
            nll = laplace_nll(target, mean[known].float(), spread) * spread.detach().exp()
            loss = loss + nll.sum() / len(label)
            errors.append((mean[known].float() - target).abs() * model.gap_std_ev)
        return loss, errors[0].mean().detach() if len(errors[0]) else loss.detach() * 0
