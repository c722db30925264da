"""From a batch of graphs to gaps and raw spreads: closed form, samples, or the mean alone."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.balora import sampling, sensitivity
from mofgap.balora.sampling import Kind
from mofgap.encoders.encoder import Fixed
from mofgap.gap.model import GapModel, owners

Uncertainty = Literal["closed-form", "weights", "rows"]
UNCERTAINTIES: tuple[Uncertainty, ...] = ("closed-form", "weights", "rows")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the model says of n structures, before calibration.

    Attributes:
        gap_ev: (n,) mean, eV.
        epistemic_std_ev: (n,) spread from the adapters' posterior, eV; NaN where none was asked for.
        aleatoric_std_ev: (n,) spread of the likelihood, eV.
        features: (n, n_features) pooled features of the frozen encoder.
        atom_share: Each atom's share of the closed-form variance, eV²; None unless asked for.
    """

    gap_ev: Floats
    epistemic_std_ev: Floats
    aleatoric_std_ev: Floats
    features: Floats
    atom_share: Floats | None = None


def posterior(
    model: GapModel,
    batch: Any,
    *,
    uncertainty: Uncertainty = "closed-form",
    samples: int = 32,
    seed: int = 0,
    atom_share: bool = False,
    fixed: Fixed | None = None,
) -> Posterior:
    """Predict the structures of a batch.

    Args:
        model: In evaluation mode.
        batch: A graph or a torch-geometric batch, on the model's device.
        uncertainty: ``closed-form`` needs no samples; ``weights`` and ``rows`` draw from the posterior.
        samples: Number of draws; 0 gives the mean alone, whatever ``uncertainty`` says.
        seed: Of the draws. A structure's draws depend on the seed and its composition, not on its batch.
        atom_share: Compute each atom's share of the closed-form variance.
        fixed: What ``encoder.prepare`` gave for the batch, or None.
    """
    with torch.no_grad():
        fixed = model.encoder.prepare(batch) if fixed is None else fixed
        features = model.frozen_features(batch, fixed)
        if samples == 0 or model.noise_network is None:
            gap, spread = model(batch, fixed)
            return Posterior(_ev(gap), np.full(len(gap), np.nan), _ev(spread), _ev(features))
        alpha = model.noise_network(features)
        if uncertainty != "closed-form":
            gaps, spreads = draw(model, batch, fixed, alpha, uncertainty, samples, seed)
            between = gaps.std(0, correction=1) if samples > 1 else torch.full_like(gaps[0], torch.nan)
            within = spreads.square().mean(0).sqrt()
            return Posterior(_ev(gaps.mean(0)), _ev(between), _ev(within), _ev(features))
    return closed_form(model, batch, fixed, alpha, features, atom_share)


def closed_form(
    model: GapModel, batch: Any, fixed: Fixed, alpha: Tensor, features: Tensor, atom_share: bool
) -> Posterior:
    """One forward and one backward pass, no draws.

    Args:
        model: In evaluation mode.
        batch: A graph or a torch-geometric batch.
        fixed: What ``encoder.prepare`` gave for it.
        alpha: (n_graphs, n_layers) what the noise network says of it; it grows with remoteness here.
        features: (n_graphs, n_features) its pooled frozen features.
        atom_share: Compute each atom's share of the variance.
    """
    spread = remoteness = torch.empty(0)

    def forward() -> Tensor:
        nonlocal spread, remoteness
        gap, spread, remoteness = model.from_pooled(model.pooled(batch, fixed))
        return gap

    owner, n_graphs = owners(batch)
    if owner is None:
        owner = torch.zeros(batch.num_nodes, dtype=torch.long, device=alpha.device)
    found = sensitivity(forward, model.layers, n_graphs, owner, per_row=atom_share)
    alpha = alpha * remoteness[:, None]
    return Posterior(
        _ev(found.output),
        _ev(found.variance(alpha).sqrt()),
        _ev(spread),
        _ev(features),
        _ev(found.variance_per_row(alpha)) if atom_share else None,
    )


def draw(
    model: GapModel, batch: Any, fixed: Fixed, alpha: Tensor, kind: Kind, samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Gaps and spreads of every draw, each (samples, n_graphs), eV; fewer draws are the first of more.

    ``alpha`` is what the noise network says; it grows with remoteness here.
    """
    owner, n_graphs = owners(batch)
    if owner is None:
        owner = torch.zeros(batch.num_nodes, dtype=torch.long, device=alpha.device)
    if model.memory is not None:
        alpha = alpha * model.from_pooled(model.pooled(batch, fixed))[2][:, None]
    names = [_composition_hash(batch.atomic_number[owner == i]) for i in range(n_graphs)]
    gaps, spreads = [], []
    for draw in range(samples):
        start = int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(start)
        input_seeds = [start ^ name for name in names]
        with sampling(model.layers, alpha, owner, kind=kind, generator=generator, input_seeds=input_seeds):
            gap, spread = model(batch, fixed)
        gaps.append(gap)
        spreads.append(spread)
    return torch.stack(gaps), torch.stack(spreads)


def _composition_hash(atomic_number: Tensor) -> int:
    """The same number for the same reduced formula, whatever the order of atoms or the cell."""
    counts = np.bincount(atomic_number.cpu().numpy(), minlength=120)
    return zlib.crc32((counts // np.gcd.reduce(counts)).tobytes())


def _ev(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()
