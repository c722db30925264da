"""From a batch of graphs to gaps and raw spreads: closed form, samples, or the mean alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.balora import Sensitivity, sampling, sensitivity
from mofgap.balora.sampling import Kind
from mofgap.choices import Uncertainty
from mofgap.crystals.graph import CrystalGraph
from mofgap.encoders.encoder import Fixed
from mofgap.gap.memory import N_SKETCH, Nearby
from mofgap.gap.model import GapModel

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

    def rows(self, positions: NDArray[np.intp]) -> Posterior:
        """Of some structures, without the shares of their atoms."""
        columns = (self.gap_ev, self.epistemic_std_ev, self.aleatoric_std_ev, self.features)
        return Posterior(*(column[positions] for column in columns))


@dataclass(frozen=True, eq=False)
class Mean:
    """A model at the mean of its posterior, and what its memory says of the structures.

    Attributes:
        fixed: What ``encoder.prepare`` gave for them.
        features: (n, n_features) pooled features of the frozen encoder.
        gap_ev: (n,) the network's gap, eV.
        spread_ev: (n,) the likelihood's spread, eV.
        pooled: (n, 3 head_hidden) pooled activations of the head.
        alpha: (n, n_layers) posterior variance factors, of the difference from the nearest structure that is
            remembered; empty without adapters.
        sensitivity: What the closed form takes; None where it was not computed.
        gradients: (n, n_sketch) places in the geometry of the posterior, eV; None where they were not asked
            for.
        nearby: What is remembered; None without a memory.
    """

    fixed: Fixed
    features: Tensor
    gap_ev: Tensor
    spread_ev: Tensor
    pooled: Tensor
    alpha: Tensor
    sensitivity: Sensitivity | None
    gradients: Tensor | None
    nearby: Nearby | None

    @property
    def remoteness(self) -> Tensor:
        """(n,) from what is remembered; ones without a memory."""
        return torch.ones_like(self.gap_ev) if self.nearby is None else self.nearby.remoteness

    def recalled(self, gap_ev: Tensor, spread_ev: Tensor) -> tuple[Tensor, Tensor]:
        """Gaps and spreads, of the mean or of a draw, with what the memory adds.

        What training left missing near by is added to the gap. The spread becomes the geometric mean of what
        the likelihood learnt and of the training errors near by, and its variance, like that of the
        posterior, grows with the remoteness of the structure.
        """
        if self.nearby is None:
            return gap_ev, spread_ev
        near = self.nearby
        return gap_ev + near.missing_ev, (spread_ev * near.error_ev * near.remoteness).sqrt()


def at_mean(
    model: GapModel,
    batch: CrystalGraph,
    fixed: Fixed | None = None,
    *,
    doubt: bool = False,
    atom_share: bool = False,
    n_sketch: int = 0,
) -> Mean:
    """One forward pass, and one backward where its gradients are needed.

    Args:
        model: In evaluation mode.
        batch: The structures.
        fixed: What ``encoder.prepare`` gave for it, or None.
        doubt: Compute what the closed-form variance takes.
        atom_share: Compute each atom's share of it too.
        n_sketch: Length of the sketches of gradients; a memory that needs some has its own.
    """
    memory = model.memory
    n_sketch = n_sketch if memory is None else memory.n_sketch
    with torch.no_grad():
        fixed = model.encoder.prepare(batch) if fixed is None else fixed
        features = model.frozen_features(batch, fixed)
    pooled = spread = torch.empty(0)

    def forward() -> Tensor:
        nonlocal pooled, spread
        pooled = model.pooled(batch, fixed)
        gap, spread = model.from_pooled(pooled)
        return gap

    found = None
    if doubt or n_sketch:
        found = sensitivity(
            forward, model.layers, batch.n_graphs, batch.structure_idx, per_row=atom_share, n_dims=n_sketch
        )
    with torch.no_grad():
        gap = forward() if found is None else found.output
        alpha, pooled = model.noise_factors(features), pooled.detach()
        gradients = found.place(alpha) if found is not None and n_sketch else None
        mean = Mean(fixed, features, gap, spread.detach(), pooled, alpha, found, gradients, None)
        if memory is None:
            return mean
        near: Nearby = memory(pooled, gradients)
        variance = torch.ones_like(gap) if found is None else found.variance(alpha)
        factor = memory.noise_factor(near.remoteness, variance)
        return replace(mean, alpha=alpha * factor[:, None], nearby=near)


def remember(model: GapModel, batches: Iterable[CrystalGraph], gap_ev: Tensor) -> None:
    """Let a trained model remember what it misses of structures, by gradients where it has adapters.

    Args:
        model: In evaluation mode.
        batches: The structures, on the model's device, in the order of the labels.
        gap_ev: (n_structures,) labels.

    Raises:
        ValueError: There are too few.
    """
    model.forget()
    pooled, gradients = [], []
    for batch in batches:
        found = at_mean(model, batch, n_sketch=N_SKETCH if model.layers else 0)
        pooled.append(found.pooled)
        if found.gradients is not None:
            gradients.append(found.gradients)
    model.remember(torch.cat(pooled), torch.cat(gradients) if gradients else None, gap_ev)


def posterior(
    model: GapModel,
    batch: CrystalGraph,
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
        batch: The structures, on the model's device.
        uncertainty: ``closed-form`` needs no samples; ``weights`` and ``rows`` draw from the posterior.
        samples: Number of draws; 0 gives the mean alone, whatever ``uncertainty`` says.
        seed: Of the draws. A structure's draws depend on the seed and its composition, not on its batch.
        atom_share: Compute each atom's share of the closed-form variance.
        fixed: What ``encoder.prepare`` gave for the batch, or None.
    """
    doubtful = samples > 0 and model.noise_network is not None
    exact = doubtful and uncertainty == "closed-form"
    mean = at_mean(model, batch, fixed, doubt=exact, atom_share=exact and atom_share)
    features = _ev(mean.features)
    with torch.no_grad():
        if doubtful and uncertainty != "closed-form":
            gaps, spreads = draw(model, batch, mean, uncertainty, samples, seed)
            between = gaps.std(0, correction=1) if samples > 1 else torch.full_like(gaps[0], torch.nan)
            within = spreads.square().mean(0).sqrt()
            return Posterior(_ev(gaps.mean(0)), _ev(between), _ev(within), features)
        gap, spread = mean.recalled(mean.gap_ev, mean.spread_ev)
        if mean.sensitivity is None or not exact:
            return Posterior(_ev(gap), np.full(len(gap), np.nan), _ev(spread), features)
        std = mean.sensitivity.variance(mean.alpha).sqrt()
        shares = _ev(mean.sensitivity.variance_per_row(mean.alpha)) if atom_share else None
        return Posterior(_ev(gap), _ev(std), _ev(spread), features, shares)


def draw(
    model: GapModel, batch: CrystalGraph, mean: Mean, kind: Kind, samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Gaps and spreads of every draw, each (samples, n_graphs), eV; fewer draws are the first of more."""
    gaps, spreads = [], []
    for start, seeds in seeds_of_draws(batch, samples, seed):
        generator = torch.Generator().manual_seed(start)
        noise = sampling(
            model.layers, mean.alpha, batch.structure_idx, kind=kind, generator=generator, input_seeds=seeds
        )
        with noise:
            gap, spread = mean.recalled(*model(batch, mean.fixed))
        gaps.append(gap)
        spreads.append(spread)
    return torch.stack(gaps), torch.stack(spreads)


def seeds_of_draws(batch: CrystalGraph, samples: int, seed: int) -> Iterator[tuple[int, list[int]]]:
    """For each draw its seed, and one for each structure, which does not depend on the batch around it."""
    names = [_composition_hash(batch.atomic_number[batch.structure_idx == i]) for i in range(batch.n_graphs)]
    for draw in range(samples):
        start = int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])
        yield start, [start ^ name for name in names]


def _composition_hash(atomic_number: Tensor) -> int:
    """The same number for the same reduced formula, whatever the order of atoms or the cell."""
    counts = np.bincount(atomic_number.cpu().numpy(), minlength=120)
    return zlib.crc32((counts // np.gcd.reduce(counts)).tobytes())


def _ev(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()
