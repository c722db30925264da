from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mofgap.balora import sampling
from mofgap.choices import Adaptation
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.store import GraphStore, build_store
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import fit_correction, posterior
from mofgap.study.methods import passes
from mofgap.study.methods.method import Estimated

ModelOf = Callable[[Adaptation], GapModel]


@pytest.fixture(scope="module")
def model_of(make_model: Callable[..., GapModel]) -> ModelOf:
    """Makes models of which the first block is frozen and shared by all draws."""
    targets = (r"blocks\.1\.(query|key|value|out|up|down)",)
    return lambda method: make_model(method, target_modules=targets).requires_grad_(False)


@pytest.fixture(scope="module")
def store(model_of: ModelOf) -> GraphStore:
    rng = np.random.default_rng(0)
    crystals = [
        Crystal(np.eye(3) * 6, rng.random((n, 3)), rng.choice([1, 6, 8, 30], n), f"s{n}")
        for n in range(3, 11)
    ]
    return build_store(crystals, model_of("lora").graph_config)


def test_bayesian_passes_are_those_of_the_predictor(model_of: ModelOf, store: GraphStore) -> None:
    model, rows = model_of("balora"), [5, 2, 7, 0]
    found = passes.bayesian(model, store, rows, 15, kinds=("weights", "rows"), counts=(1, 2, 6), seed=3)
    for kind in ("closed-form", "weights", "rows"):
        for place, row in enumerate(rows):
            one = posterior(model, store[row], uncertainty=kind, samples=6, seed=3)
            mine = found[f"balora-{kind}", 0 if kind == "closed-form" else 6]
            assert mine.gap_ev[place] == pytest.approx(one.gap_ev[0], rel=1e-4)
            assert mine.epistemic_std_ev[place] == pytest.approx(one.epistemic_std_ev[0], rel=1e-3)
            assert mine.aleatoric_std_ev[place] == pytest.approx(one.aleatoric_std_ev[0], rel=1e-4)


def test_fewer_draws_are_the_first_of_more(model_of: ModelOf, store: GraphStore) -> None:
    model, rows = model_of("balora"), range(len(store))
    run: Callable[..., Estimated] = passes.bayesian
    few = run(model, store, rows, 30, kinds=("weights",), counts=(1, 4), seed=0)
    many = run(model, store, rows, 30, kinds=("weights",), counts=(1, 4, 16), seed=0)
    np.testing.assert_allclose(few["balora-weights", 4].gap_ev, many["balora-weights", 4].gap_ev)
    assert np.isnan(many["balora-weights", 1].epistemic_std_ev).all()
    assert many["balora-weights", 16].ms > many["balora-weights", 0].ms


def test_the_mean_needs_no_draws(model_of: ModelOf, store: GraphStore) -> None:
    model, rows = model_of("balora"), range(len(store))
    found = passes.bayesian(model, store, rows, 30, kinds=("rows",), counts=(2,), seed=0)
    alone = passes.mean(model, store, rows, 30, "full")["full", 0]
    np.testing.assert_allclose(found["balora-rows", 0].gap_ev, alone.gap_ev, rtol=1e-5)
    np.testing.assert_allclose(found["balora-closed-form", 0].gap_ev, alone.gap_ev, rtol=1e-5)


def corrected(model_of: ModelOf, method: Adaptation, store: GraphStore) -> GapModel:
    """A model corrected by the structures but for the first three, each with seven near it."""
    model = model_of(method)
    seven = range(3, len(store))
    factors = 1 + 0.01 * torch.arange(8)
    near = [replace(store[i], distance=store[i].distance * factor) for i in seven for factor in factors]
    gap_ev = torch.cat([model(graph)[0] for graph in near])
    fit_correction(model, near, gap_ev + 0.2 * torch.randn(len(near)))
    return model


def test_corrected_dropout_has_the_gap_of_the_neighbours_and_the_spread_of_its_masks(
    model_of: ModelOf,
    store: GraphStore,
) -> None:
    rows = range(len(store))
    plain, model = model_of("lora"), corrected(model_of, "lora", store)
    mean = [passes.mean(each, store, rows, 30, "lora")["lora", 0] for each in (plain, model)]
    without, found = (
        passes.mc_dropout(each, store, rows, 30, rate=0.2, counts=(2, 8), seed=0)["mc-dropout", 8]
        for each in (plain, model)
    )
    np.testing.assert_allclose(found.epistemic_std_ev, without.epistemic_std_ev, rtol=1e-3)
    np.testing.assert_allclose(
        found.gap_ev - without.gap_ev, mean[1].gap_ev - mean[0].gap_ev, rtol=1e-3, atol=1e-5
    )
    assert np.abs(found.gap_ev - without.gap_ev).max() > 0.01


@pytest.mark.parametrize("method", ["lora", "balora"])
def test_corrected_passes_are_those_of_the_predictor(
    method: Adaptation, model_of: ModelOf, store: GraphStore
) -> None:
    model, rows = corrected(model_of, method, store), [1, 2]
    if method == "lora":
        mine = passes.mean(model, store, rows, 60, "lora")["lora", 0]
    else:
        found = passes.bayesian(model, store, rows, 60, kinds=("weights",), counts=(4,), seed=3)
        assert ("balora-closed-form", 0) not in found
        mine = found["balora-distance", 0]
    for place, row in enumerate(rows):
        one = posterior(model, store[row])
        assert mine.gap_ev[place] == pytest.approx(one.gap_ev[0], rel=1e-3)
        assert mine.epistemic_std_ev[place] == pytest.approx(one.epistemic_std_ev[0], rel=2e-2)


def test_dropout_spreads_predictions_around_the_mean(model_of: ModelOf, store: GraphStore) -> None:
    model, rows = model_of("lora"), range(len(store))
    found = passes.mc_dropout(model, store, rows, 30, rate=0.2, counts=(2, 64), seed=0)
    many, alone = found["mc-dropout", 64], found["mc-dropout", 0]
    assert (many.epistemic_std_ev > 0).all()
    assert (np.abs(many.gap_ev - alone.gap_ev) < 6 * many.epistemic_std_ev).all()
    assert all(layer.perturbation is None for layer in model.layers.values())


def test_what_dropout_says_of_a_structure_does_not_depend_on_its_batch(
    model_of: ModelOf, store: GraphStore
) -> None:
    model, last = model_of("lora"), len(store) - 1
    many, alone = (
        passes.mc_dropout(model, store, rows, batch_atoms, rate=0.2, counts=(2, 8), seed=0)["mc-dropout", 8]
        for rows, batch_atoms in ((range(len(store)), 1000), ([last], 1))
    )
    assert alone.gap_ev[0] == pytest.approx(many.gap_ev[last], rel=1e-4)
    assert alone.epistemic_std_ev[0] == pytest.approx(many.epistemic_std_ev[last], rel=1e-3)


def test_each_structure_has_a_draw_of_its_own(
    model_of: ModelOf, store: GraphStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []

    def spied(*args: Any, input_seeds: list[int], **kwargs: Any) -> AbstractContextManager[None]:
        seen.append(input_seeds)
        return sampling(*args, input_seeds=input_seeds, **kwargs)

    monkeypatch.setattr("mofgap.gap.posterior.sampling", spied)
    rows = range(len(store))
    passes.bayesian(model_of("balora"), store, rows, 10_000, kinds=("weights",), counts=(3,), seed=0)
    assert len(seen) == 3 and len({seed for seeds in seen for seed in seeds}) == 3 * len(store)
