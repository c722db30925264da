"""Passes of a trained model over structures: its mean and default spread, and draws of several kinds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mofgap.balora.dropout import dropout
from mofgap.choices import Noise
from mofgap.crystals.graph import CrystalGraph
from mofgap.crystals.store import GraphStore
from mofgap.encoders.encoder import FrozenOutputs
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import (
    MeanPrediction,
    Posterior,
    at_mean,
    draw,
    posterior,
    seeds_of_draws,
    spread_of,
)
from mofgap.study.methods.method import Estimated, Estimates


@dataclass
class _Collected:
    """Parts of `Estimates`, batch by batch."""

    parts: dict[tuple[str, int], list[Posterior]] = field(default_factory=dict)
    seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def add(self, source: tuple[str, int], found: Posterior, seconds: float) -> None:
        self.parts.setdefault(source, []).append(found)
        self.seconds[source] = self.seconds.get(source, 0.0) + seconds

    def estimates(self) -> Estimated:
        found = {}
        for source, parts in self.parts.items():
            whole = Posterior.joined(parts)
            ms = 1e3 * self.seconds[source] / max(1, len(whole.gap_ev))
            found[source] = Estimates(whole.gap_ev, whole.epistemic_std_ev, whole.aleatoric_std_ev, ms)
        return found


def mean(model: GapModel, store: GraphStore, rows: Sequence[int], batch_atoms: int, method: str) -> Estimated:
    """The model's own gap and spread, without draws."""
    found = _Collected()
    for batch in store.batches(rows, batch_atoms, model.device):
        elapsed = clock()
        found.add((method, 0), posterior(model, batch), elapsed())
    return found.estimates()


def bayesian(
    model: GapModel,
    store: GraphStore,
    rows: Sequence[int],
    batch_atoms: int,
    *,
    kinds: Sequence[Noise],
    counts: Sequence[int],
    seed: int,
) -> Estimated:
    """A BaLoRA model's default spread, and draws; what lies below the adapters is computed once for all.

    The default is ``balora-distance`` with a neighbour correction, else ``balora-closed-form``.

    Args:
        model: In evaluation mode, of the method ``balora``.
        store: Graphs.
        rows: Which of them.
        batch_atoms: Atoms of a batch.
        kinds: Ways of drawing.
        counts: Numbers of draws, rising; the first draws of the many are the few.
        seed: Seed of the draws.
    """
    found, spread = _Collected(), spread_of(model, "auto")
    assert spread == "distance" or spread == "closed-form"
    for batch in store.batches(rows, batch_atoms, model.device):
        own, below, alone = _at_mean(model, batch)
        elapsed = clock()
        exact = at_mean(model, batch, own.frozen, closed_form=spread == "closed-form")
        found.add((f"balora-{spread}", 0), exact.posterior(spread), below + elapsed())
        for kind in kinds:
            method = f"balora-{kind}"
            found.add((method, 0), own.posterior(None), alone)
            with torch.no_grad():
                elapsed = clock()
                drawn = draw(model, batch, own, kind, counts[-1], seed)
                before = below if own.correction is None else alone
                _add_draws(found, method, drawn, own, counts, before, elapsed())
    return found.estimates()


def mc_dropout(
    model: GapModel,
    store: GraphStore,
    rows: Sequence[int],
    batch_atoms: int,
    *,
    rate: float,
    counts: Sequence[int],
    seed: int,
) -> Estimated:
    """Monte Carlo dropout: the same as `bayesian`, with masks for draws."""
    found, method = _Collected(), "mc-dropout"
    for batch in store.batches(rows, batch_atoms, model.device):
        own, below, alone = _at_mean(model, batch)
        found.add((method, 0), own.posterior(None), alone)
        with torch.no_grad():
            elapsed = clock()
            seeds = seeds_of_draws(batch, counts[-1], seed)
            masked = [own.corrected(*_masked(model, batch, own.frozen, rate, each)) for _, each in seeds]
            gaps, stds = (torch.stack(column) for column in zip(*masked, strict=True))
            before = below if own.correction is None else alone
            _add_draws(found, method, (gaps, stds), own, counts, before, elapsed())
    return found.estimates()


def _at_mean(model: GapModel, batch: CrystalGraph) -> tuple[MeanPrediction, float, float]:
    """The mean, and the seconds for what lies below the adapters and for all of it.

    Draws need the first alone; with a neighbour correction, which is computed once at the mean, all.
    """
    elapsed = clock()
    with torch.no_grad():
        frozen = model.encoder.run_frozen(batch)
    below = elapsed()
    own = at_mean(model, batch, frozen)
    return own, below, below + elapsed()


def _masked(
    model: GapModel, batch: CrystalGraph, frozen: FrozenOutputs, rate: float, seeds: list[int]
) -> tuple[Tensor, Tensor]:
    with dropout(model.layers, rate, row_to_input=batch.structure_idx, input_seeds=seeds):
        gap, std = model(batch, frozen)
    return gap, std


def _add_draws(
    found: _Collected,
    method: str,
    drawn: tuple[Tensor, Tensor],
    own: MeanPrediction,
    counts: Sequence[int],
    below: float,
    seconds: float,
) -> None:
    gaps, stds = drawn
    for n in counts:
        share = below + seconds * n / len(gaps)
        found.add((method, n), own.posterior_of_draws(gaps[:n], stds[:n]), share)


def clock() -> Callable[[], float]:
    """A clock that gives the CPU seconds since it was last read."""
    last = time.process_time()

    def read() -> float:
        nonlocal last
        now = time.process_time()
        gone, last = now - last, now
        return gone

    return read
