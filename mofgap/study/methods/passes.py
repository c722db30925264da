"""Passes of a trained model over structures: its mean, its closed form, and draws of several kinds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.balora.dropout import dropout
from mofgap.balora.sampling import Kind
from mofgap.crystals.graph import CrystalGraph
from mofgap.crystals.store import GraphStore
from mofgap.encoders.encoder import Fixed
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import Mean, at_mean, draw, seeds_of_draws

Floats = NDArray[np.float64]


@dataclass
class Estimates:
    """What one way of predicting says of n structures.

    Attributes:
        gap_ev: (n,) gap, eV.
        epistemic_std_ev: (n,) NaN where there is none.
        aleatoric_std_ev: (n,) of the likelihood.
        ms: CPU milliseconds a structure.
        remoteness: (n,) factor that a memory puts on the variances, in them already.
    """

    gap_ev: Floats
    epistemic_std_ev: Floats
    aleatoric_std_ev: Floats
    ms: float
    remoteness: Floats | float = 1.0


Source = tuple[str, int]
"""A method and its number of draws."""


@dataclass
class _Collected:
    """Parts of `Estimates`, batch by batch."""

    parts: dict[Source, list[list[Floats]]] = field(default_factory=dict)
    seconds: dict[Source, float] = field(default_factory=dict)

    def add(
        self,
        source: Source,
        gap: Tensor,
        epistemic: Tensor | None,
        aleatoric: Tensor,
        remoteness: Tensor,
        seconds: float,
    ) -> None:
        spread = torch.full_like(gap, torch.nan) if epistemic is None else epistemic
        columns = [t.detach().cpu().double().numpy() for t in (gap, spread, aleatoric, remoteness)]
        self.parts.setdefault(source, []).append(columns)
        self.seconds[source] = self.seconds.get(source, 0.0) + seconds

    def estimates(self) -> dict[Source, Estimates]:
        found = {}
        for source, parts in self.parts.items():
            gap, epistemic, aleatoric, remoteness = map(np.concatenate, zip(*parts, strict=True))
            ms = 1e3 * self.seconds[source] / max(1, len(gap))
            found[source] = Estimates(gap, epistemic, aleatoric, ms, remoteness)
        return found


def mean(
    model: GapModel, store: GraphStore, rows: Sequence[int], batch_atoms: int, method: str
) -> dict[Source, Estimates]:
    """The model's own gap and the likelihood's spread; with a memory, a doubt that is distance alone."""
    found = _Collected()
    for batch in store.batches(rows, batch_atoms, model.device):
        elapsed = clock()
        own = at_mean(model, batch)
        doubt = None
        if model.memory is not None:
            doubt = model.memory.residual_ev.square().mean().sqrt() * own.remoteness.sqrt()
        gap, spread = own.recalled(own.gap_ev, own.spread_ev)
        found.add((method, 0), gap, doubt, spread, own.remoteness, elapsed())
    return found.estimates()


def bayesian(
    model: GapModel,
    store: GraphStore,
    rows: Sequence[int],
    batch_atoms: int,
    *,
    kinds: Sequence[Kind],
    counts: Sequence[int],
    seed: int,
) -> dict[Source, Estimates]:
    """Closed form and draws of a BaLoRA model; what lies below the adapters is computed once for all.

    Args:
        model: In evaluation mode, of the method ``balora``.
        store: Graphs.
        rows: Which of them.
        batch_atoms: Atoms of a batch.
        kinds: Ways of drawing, besides the closed form.
        counts: Numbers of draws, rising; the first draws of the many are the few.
        seed: Of the draws.
    """
    found = _Collected()
    for batch in store.batches(rows, batch_atoms, model.device):
        own, below, alone = _looked(model, batch)
        elapsed = clock()
        exact = at_mean(model, batch, own.fixed, doubt=True)
        seconds = below + elapsed()
        gap, spread = own.recalled(own.gap_ev, own.spread_ev)
        assert exact.sensitivity is not None
        std = exact.sensitivity.variance(exact.alpha).sqrt()
        found.add(("balora-closed-form", 0), gap, std, spread, own.remoteness, seconds)
        for kind in kinds:
            method = f"balora-{kind}"
            found.add((method, 0), gap, None, spread, own.remoteness, alone)
            with torch.no_grad():
                elapsed = clock()
                drawn = draw(model, batch, own, kind, counts[-1], seed)
                before = below if own.nearby is None else alone
                _add_draws(found, method, drawn, own, counts, before, elapsed())
    return found.estimates()


def dropping(
    model: GapModel,
    store: GraphStore,
    rows: Sequence[int],
    batch_atoms: int,
    *,
    rate: float,
    counts: Sequence[int],
    seed: int,
) -> dict[Source, Estimates]:
    """Monte Carlo dropout: the same as `bayesian`, with masks for draws, further apart where remote."""
    found, method = _Collected(), "mc-dropout"
    for batch in store.batches(rows, batch_atoms, model.device):
        own, below, alone = _looked(model, batch)
        gap, spread = own.recalled(own.gap_ev, own.spread_ev)
        found.add((method, 0), gap, None, spread, own.remoteness, alone)
        with torch.no_grad():
            elapsed = clock()
            seeds = seeds_of_draws(batch, counts[-1], seed)
            masked = [_masked(model, batch, own.fixed, rate, each) for _, each in seeds]
            gaps, spreads = (torch.stack(column) for column in zip(*masked, strict=True))
            drawn = own.recalled(own.gap_ev + own.remoteness.sqrt() * (gaps - own.gap_ev), spreads)
            before = below if own.nearby is None else alone
            _add_draws(found, method, drawn, own, counts, before, elapsed())
    return found.estimates()


def _looked(model: GapModel, batch: CrystalGraph) -> tuple[Mean, float, float]:
    """The mean, and the seconds for what lies below the adapters and for all of it.

    Draws need the first alone, and with a memory, which is looked into once at the mean, all.
    """
    elapsed = clock()
    with torch.no_grad():
        fixed = model.encoder.prepare(batch)
    below = elapsed()
    own = at_mean(model, batch, fixed)
    return own, below, below + elapsed()


def _masked(
    model: GapModel, batch: CrystalGraph, fixed: Fixed, rate: float, seeds: list[int]
) -> tuple[Tensor, Tensor]:
    with dropout(model.layers, rate, row_to_input=batch.structure_idx, input_seeds=seeds):
        gap, spread = model(batch, fixed)
    return gap, spread


def _add_draws(
    found: _Collected,
    method: str,
    drawn: tuple[Tensor, Tensor],
    own: Mean,
    counts: Sequence[int],
    below: float,
    seconds: float,
) -> None:
    gaps, spreads = drawn
    for n in counts:
        between = gaps[:n].std(0, correction=1) if n > 1 else None
        within, share = spreads[:n].square().mean(0).sqrt(), below + seconds * n / len(gaps)
        found.add((method, n), gaps[:n].mean(0), between, within, own.remoteness, share)


def clock() -> Callable[[], float]:
    """A clock that tells the CPU seconds since it was last read."""
    last = time.process_time()

    def read() -> float:
        nonlocal last
        now = time.process_time()
        gone, last = now - last, now
        return gone

    return read
