"""Pretraining: train an encoder on the quantities that a calculation gives for each atom, then freeze it.

Targets are per-atom quantities of one calculation: charge, sum of bond orders and, of PBE, size of the
magnetic moment; and the elements of atoms that were masked. None of them is ever an input.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.crystals.elements import MAX_Z
from mofgap.crystals.graph import CrystalGraph
from mofgap.encoders.encoder import MASKED, Encoder

ATOM_TARGETS = {
    "pbe_ddec6_charge_e": "DDEC6 net charge, e",
    "pbe_ddec6_bond_order": "sum of DDEC6 bond orders",
    "pbe_magmom_mu_b": "size of the magnetic moment, Bohr magnetons",
    "pbe_cm5_charge_e": "CM5 charge, e",
}
"""Columns of per-atom targets of PBE, and what they are."""

XTB_TARGETS = {
    "xtb_charge_e": "GFN1-xTB Mulliken charge, e",
    "xtb_bond_order": "sum of GFN1-xTB bond orders",
}
"""The same of GFN1-xTB, which costs minutes for a table where PBE costs weeks."""

BETA = 0.1
"""Where the loss of a target turns from squares to absolute values, in standard deviations."""

SIZE_ONLY = {"pbe_magmom_mu_b"}
"""Targets whose sign is a convention of the calculation: the encoder is trained on their magnitude."""


def targets_of(columns: Container[str]) -> Mapping[str, str]:
    """The targets that a table has: those of PBE, unless it has some of GFN1-xTB and none of PBE."""
    has_pbe, has_xtb = (any(name in columns for name in names) for names in (ATOM_TARGETS, XTB_TARGETS))
    return XTB_TARGETS if has_xtb and not has_pbe else ATOM_TARGETS


class AtomHeads(nn.Module):
    """An encoder with a head for every per-atom target and one for masked elements.

    Args:
        encoder: What is trained.
        centre: (n_targets,) mean of each target over training atoms.
        scale: (n_targets,) its standard deviation.
    """

    scale: Tensor
    centre: Tensor

    def __init__(self, encoder: Encoder, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        width = encoder.width
        self.regress = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, len(scale)))
        self.classify = nn.Linear(width, MAX_Z + 1)
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def forward(self, batch: CrystalGraph) -> tuple[Tensor, Tensor]:
        """Per-atom targets in their own units (n_atoms, n_targets), and the features they came from."""
        features = self.encoder(batch)[:, -1]
        return self.regress(features).float() * self.scale + self.centre, features

    def loss(
        self, batch: CrystalGraph, target: Tensor, masked: Tensor, mask_weight: float
    ) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: The structures.
            target: (n_atoms, n_targets) in the targets' own units.
            masked: (n_atoms,) bool, atoms whose element the encoder must not see.
            mask_weight: Weight of the masked-element loss.

        Returns:
            ``loss`` to descend, ``mae`` (n_targets,) in each target's units, 0 where all atoms are masked,
            ``n_masked``, and ``element_accuracy`` of those, NaN where there are none.
        """
        number = batch.atomic_number
        predicted, features = self(replace(batch, atomic_number=torch.where(masked, MASKED, number)))
        error = (predicted - target)[~masked]
        logits = self.classify(features[masked]).float()
        element = F.cross_entropy(logits, number[masked]) if masked.any() else logits.sum()
        n_seen = max(1, len(error))  # none where all are masked
        regression = F.smooth_l1_loss(error / self.scale, torch.zeros_like(error), beta=BETA, reduction="sum")
        return {
            "loss": regression / (n_seen * len(self.scale)) + mask_weight * element,
            "mae": error.abs().sum(0).detach() / n_seen,
            "n_masked": masked.sum(),
            "element_accuracy": (logits.argmax(-1) == number[masked]).float().mean().detach(),
        }
