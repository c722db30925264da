"""From a batch of graphs to gaps and spreads before calibration."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.balora import Sensitivity, sampling, sensitivity
from mofgap.choices import N_SAMPLES, Noise, Uncertainty
from mofgap.crystals.graph import CrystalGraph
from mofgap.crystals.store import GraphStore
from mofgap.encoders.encoder import FrozenOutputs
from mofgap.gap.correction import N_SKETCH, Correction, array_of
from mofgap.gap.model import GapModel
from mofgap.uncertainty.columns import Floats

Spread = Literal["distance", "closed-form", "weights", "rows"]

DISAGREEMENT = 0.3
"""Share of the standard deviation of the networks' gaps that is added in squares to the distance. On val, 0.2
to 0.4 are best for both shipped models together (``python -m benchmarks.disagreement``)."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the model says of n structures, before calibration.

    Attributes:
        gap_ev: (n,) mean, eV.
        epistemic_std_ev: (n,) epistemic standard deviation, eV; NaN where there is none.
        aleatoric_std_ev: (n,) standard deviation of the likelihood, eV.
        features: (n, n_features) pooled features of the frozen encoder.
        relative_distance: (n,) from the nearest structure with a known gap, see `NeighbourCorrection`; None
            if it is not asked for, or without a neighbour correction.
    """

    gap_ev: Floats
    epistemic_std_ev: Floats
    aleatoric_std_ev: Floats
    features: Floats
    relative_distance: Floats | None = None

    @classmethod
    def empty(cls, n_features: int) -> Posterior:
        """Of no structure."""
        none = np.empty(0)
        return cls(none, none, none, np.empty((0, n_features)), none)

    @classmethod
    def joined(cls, parts: Sequence[Posterior]) -> Posterior:
        """Of the structures of several parts; ``relative_distance`` is None if a part lacks it."""
        distances = [part.relative_distance for part in parts if part.relative_distance is not None]
        return cls(
            np.concatenate([part.gap_ev for part in parts]),
            np.concatenate([part.epistemic_std_ev for part in parts]),
            np.concatenate([part.aleatoric_std_ev for part in parts]),
            np.concatenate([part.features for part in parts]),
            np.concatenate(distances) if len(distances) == len(parts) else None,
        )

    def widened(self, factor: Floats) -> Posterior:
        """With standard deviations that are so many times as large, (n,) factors."""
        return replace(
            self,
            epistemic_std_ev=factor * self.epistemic_std_ev,
            aleatoric_std_ev=factor * self.aleatoric_std_ev,
        )

    def rows(self, positions: NDArray[np.intp]) -> Posterior:
        """Of some structures."""
        kept: dict[str, Any] = {
            name: each[positions] for name, each in vars(self).items() if each is not None
        }
        return Posterior(**kept)


@dataclass(frozen=True, eq=False)
class MeanPrediction:
    """The network at the mean of its posterior, and the neighbour correction of the structures.

    Attributes:
        frozen: What ``encoder.run_frozen`` gave for them.
        features: (n, n_features) pooled features of the frozen encoder.
        gaps_ev: (n_networks, n) gap of the network, then those of the other members, eV.
        aleatoric_std_ev: (n,) standard deviation of its likelihood, eV.
        pooled: (n, n_pooled) pooled activations of the head, then those of each other member's.
        alpha: (n, n_layers) posterior variance factors; empty without adapters.
        sensitivity: What the closed form takes; None where it was not computed.
        gradients: (n, n_sketch) places in the geometry of the posterior, eV; None where they were not
            computed.
        correction: What the neighbours say; None without a neighbour correction.
    """

    frozen: FrozenOutputs
    features: Tensor
    gaps_ev: Tensor
    aleatoric_std_ev: Tensor
    pooled: Tensor
    alpha: Tensor
    sensitivity: Sensitivity | None
    gradients: Tensor | None
    correction: Correction | None

    @property
    def gap_ev(self) -> Tensor:
        """(n,) gap of the first network, eV."""
        return self.gaps_ev[0]

    def corrected(self, gap_ev: Tensor, aleatoric_std_ev: Tensor) -> tuple[Tensor, Tensor]:
        """Gaps and aleatoric standard deviations with the other members and the neighbour correction.

        The shift to the mean with the other members and the expected residual are added to the gap. The
        standard deviation becomes the geometric mean of two: that of the likelihood, and the usual error of
        the neighbours. Its square grows with the relative distance.

        Args:
            gap_ev: (n,) of the mean or of a draw.
            aleatoric_std_ev: (n,) the same.
        """
        near, gap_ev = self.correction, gap_ev + (self.gaps_ev.mean(0) - self.gap_ev)
        if near is None:
            return gap_ev, aleatoric_std_ev
        return gap_ev + near.residual_ev, (aleatoric_std_ev * near.error_ev * near.relative_distance).sqrt()

    def posterior(self, spread: Literal["distance", "closed-form"] | None) -> Posterior:
        """The corrected mean, with an epistemic standard deviation that needs no draws.

        Args:
            spread: Which; None for none. It must have been computed.
        """
        gap, aleatoric = self.corrected(self.gap_ev, self.aleatoric_std_ev)
        std = torch.full_like(gap, torch.nan)
        if spread == "distance":
            assert self.correction is not None
            std = self.correction.std_ev
            if len(self.gaps_ev) > 1:
                std = torch.hypot(std, DISAGREEMENT * self.gaps_ev.std(0))
        elif spread == "closed-form":
            assert self.sensitivity is not None
            std = self.sensitivity.variance(self.alpha).sqrt()
        return self._posterior(gap, std, aleatoric)

    def posterior_of_draws(self, gaps: Tensor, aleatoric: Tensor) -> Posterior:
        """Mean and standard deviation of corrected draws, each (n_draws, n), eV; one draw has no std."""
        std = gaps.std(0, correction=1) if len(gaps) > 1 else torch.full_like(gaps[0], torch.nan)
        within = aleatoric.square().mean(0).sqrt()
        return self._posterior(gaps.mean(0), std, within)

    def _posterior(self, gap_ev: Tensor, std_ev: Tensor, aleatoric_std_ev: Tensor) -> Posterior:
        near = None if self.correction is None else array_of(self.correction.relative_distance)
        return Posterior(
            array_of(gap_ev), array_of(std_ev), array_of(aleatoric_std_ev), array_of(self.features), near
        )


def spread_of(model: GapModel, uncertainty: Uncertainty) -> Spread | None:
    """The spread that a model gives for a choice; None if ``auto`` finds none.

    Raises:
        ValueError: If the model cannot give the spread that ``uncertainty`` names.
    """
    if uncertainty == "auto":
        if model.correction is not None:
            return "distance"
        return None if model.noise_network is None else "closed-form"
    if uncertainty == "distance" and model.correction is None:
        raise ValueError("uncertainty distance needs a model with a neighbour correction: choose auto")
    if uncertainty != "distance" and model.noise_network is None:
        raise ValueError(
            f"uncertainty {uncertainty} needs the method balora, not {model.config.method}: choose auto"
        )
    return uncertainty


def at_mean(
    model: GapModel,
    batch: CrystalGraph,
    frozen: FrozenOutputs | None = None,
    of_members: Sequence[FrozenOutputs | None] = (),
    *,
    closed_form: bool = False,
    atom_share: bool = False,
    n_sketch: int = 0,
) -> MeanPrediction:
    """One forward pass, and one backward pass where gradients are needed.

    Args:
        model: In evaluation mode.
        batch: The structures.
        frozen: What ``encoder.run_frozen`` gave for it, or None.
        of_members: What ``encoder.run_frozen`` of each other member gave for it, or None; empty for none.
        closed_form: Compute what the closed-form variance takes.
        atom_share: Compute each atom's share of it too.
        n_sketch: Length of the sketches of gradients; a neighbour correction has its own.
    """
    if model.correction is not None:
        n_sketch = model.correction.n_sketch
    with torch.no_grad():
        frozen = model.encoder.run_frozen(batch) if frozen is None else frozen
        features = model.frozen_features(batch, frozen)
    pooled = aleatoric = torch.empty(0)

    def forward() -> Tensor:
        nonlocal pooled, aleatoric
        # Else the gradients jump where an atom takes over an extreme.
        pooled = model.pooled(batch, frozen, model.softness if torch.is_grad_enabled() else 0.0)
        gap, aleatoric = model.from_pooled(pooled)
        return gap

    found = None
    if closed_form or n_sketch:
        found = sensitivity(
            forward, model.layers, batch.n_graphs, batch.structure_idx, per_row=atom_share, n_dims=n_sketch
        )
    with torch.no_grad():
        gap = forward() if found is None else found.output
        alpha, parts, gaps = model.noise_factors(features), [pooled.detach()], [gap]
        for member, prepared in zip_longest(model.members, of_members):
            assert isinstance(member, GapModel)
            parts.append(member.pooled(batch, prepared))
            gaps.append(member.from_pooled(parts[-1])[0])
        pooled = torch.cat(parts, dim=1)
        gradients = found.gradient_features(alpha) if found is not None and n_sketch else None
        correction = None if model.correction is None else model.correction(pooled, gradients)
    return MeanPrediction(
        frozen, features, torch.stack(gaps), aleatoric.detach(), pooled, alpha, found, gradients, correction
    )


def fit_correction(model: GapModel, batches: Iterable[CrystalGraph], gap_ev: Tensor) -> None:
    """Fit the neighbour correction of a trained model, by gradients where it has adapters.

    Args:
        model: In evaluation mode.
        batches: The training structures, on the model's device, in the order of the labels.
        gap_ev: (n_structures,) labels.

    Raises:
        ValueError: If the number of training structures is not above `mofgap.gap.correction.N_NEIGHBOURS`.
    """
    model.drop_correction()
    pooled, gradients, fitted_ev = [], [], []
    for batch in batches:
        found = at_mean(model, batch, n_sketch=N_SKETCH if model.layers else 0)
        pooled.append(found.pooled)
        fitted_ev.append(found.gaps_ev.mean(0))
        if found.gradients is not None:
            gradients.append(found.gradients)
    fitted = torch.cat(fitted_ev)
    model.fit_correction(
        torch.cat(pooled), torch.cat(gradients) if gradients else None, gap_ev.to(fitted) - fitted
    )


def posterior(
    model: GapModel,
    batch: CrystalGraph,
    *,
    uncertainty: Uncertainty = "auto",
    samples: int = N_SAMPLES,
    seed: int = 0,
    frozen: FrozenOutputs | None = None,
    of_members: Sequence[FrozenOutputs | None] = (),
) -> Posterior:
    """The posterior of the structures of a batch.

    Args:
        model: In evaluation mode.
        batch: The structures, on the model's device.
        uncertainty: Where the epistemic standard deviation comes from, see `Uncertainty`.
        samples: Number of draws of ``weights`` and ``rows``. 0 gives the mean alone, without an epistemic
            standard deviation, whatever ``uncertainty`` says.
        seed: Of the draws. A structure's draws depend on the seed and its composition, not on its batch.
        frozen: What ``encoder.run_frozen`` gave for the batch, or None.
        of_members: What ``encoder.run_frozen`` of each other member gave for it, or None; empty for none.

    Raises:
        ValueError: If the model cannot give the spread that ``uncertainty`` names.
    """
    spread = spread_of(model, uncertainty)
    if not samples:
        spread = None
    mean = at_mean(model, batch, frozen, of_members, closed_form=spread == "closed-form")
    with torch.no_grad():
        if spread == "weights" or spread == "rows":
            return mean.posterior_of_draws(*draw(model, batch, mean, spread, samples, seed))
        return mean.posterior(spread)


def predict_store(model: GapModel, store: GraphStore, rows: Sequence[int]) -> Posterior:
    """The posterior of structures of a store, each computed by itself."""
    return Posterior.joined([posterior(model, store[i]) for i in rows])


def draw(
    model: GapModel, batch: CrystalGraph, mean: MeanPrediction, kind: Noise, samples: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Corrected gaps and aleatoric standard deviations of draws from the posterior.

    Args:
        model: In evaluation mode.
        batch: The structures.
        mean: What `at_mean` gave for them.
        kind: How to draw.
        samples: Number of draws; fewer are the first of more.
        seed: Of the draws.

    Returns:
        Both (samples, n_graphs), eV.
    """
    gaps, stds = [], []
    for start, seeds in seeds_of_draws(batch, samples, seed):
        generator = torch.Generator().manual_seed(start)
        noise = sampling(
            model.layers, mean.alpha, batch.structure_idx, kind=kind, generator=generator, input_seeds=seeds
        )
        with noise:
            gap, std = mean.corrected(*model(batch, mean.frozen))
        gaps.append(gap)
        stds.append(std)
    return torch.stack(gaps), torch.stack(stds)


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
