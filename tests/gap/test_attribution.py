from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.gap.attribution import attribute, equivalent, pooled_parts
from mofgap.gap.head import pool
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import posterior


@given(st.integers(0, 2**31), st.integers(1, 9))
@settings(max_examples=30)
def test_parts_of_atoms_sum_to_the_pool(seed: int, n_atoms: int) -> None:
    x = torch.randn(n_atoms, 5, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(pooled_parts(x).sum(0), pool(x, None, 1)[0])


def test_atoms_in_a_tie_share_an_extreme_evenly() -> None:
    parts = pooled_parts(torch.tensor([[2.0], [2.0], [-1.0], [0.0]]))
    torch.testing.assert_close(parts[:, 1], torch.tensor([1.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(parts[:, 2], torch.tensor([0.0, 0.0, -1.0, 0.0]))


def test_atoms_alike_but_for_rounding_are_equivalent() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(3, 8))
    x = base[[0, 1, 0, 2, 1, 0]] + rng.normal(scale=1e-5, size=(6, 8))
    group = equivalent(x, np.array([6, 8, 6, 30, 8, 7]))
    assert group[0] == group[2] and group[1] == group[4]
    assert len({group[0], group[1], group[3], group[5]}) == 4


def test_equivalent_atoms_have_equal_shares_whatever_the_rounding(
    make_model: Callable[..., GapModel],
) -> None:
    """A square of four equivalent oxygens around zinc, each moved by what a CIF's digits leave out."""
    square = np.array([[0.5, 0.5, 0.5], [0.7, 0.5, 0.5], [0.3, 0.5, 0.5], [0.5, 0.7, 0.5], [0.5, 0.3, 0.5]])
    square = square + np.random.default_rng(2).normal(scale=1e-6, size=square.shape)
    found = attribute(make_model(), Crystal(np.diag([9.0, 9.0, 5.0]), square, np.array([30, 8, 8, 8, 8])))
    for shares in (found.gap_share_ev, found.variance_share_ev2):
        assert np.ptp(shares[1:]) == 0 and shares[0] != shares[1]
    assert found.gap_share_ev.sum() == pytest.approx(found.gap_ev - found.reference_ev, abs=2e-5)
    assert found.variance_fraction.sum() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_shares_sum_to_the_whole(
    seed: int, make_crystal: Callable[..., Crystal], make_model: Callable[..., GapModel]
) -> None:
    model, crystal = make_model(seed=seed), make_crystal(seed, 5 + seed)
    found = attribute(model, crystal)
    whole = posterior(model, crystal_graph(crystal, model.graph_config))
    assert found.gap_ev == pytest.approx(float(whole.gap_ev[0]), abs=1e-6)
    assert found.gap_share_ev.shape == found.variance_share_ev2.shape == (crystal.n_atoms,)
    assert found.gap_share_ev.sum() == pytest.approx(found.gap_ev - found.reference_ev, abs=2e-5)
    assert found.variance_ev2 == pytest.approx(float(whole.epistemic_std_ev[0]) ** 2, rel=1e-5) and (
        found.variance_ev2 > 0
    )
    assert found.variance_share_ev2.sum() == pytest.approx(found.variance_ev2, rel=1e-4)
    assert found.variance_fraction.sum() == pytest.approx(1, rel=1e-4)
    assert np.ptp(found.gap_share_ev) > 1e-4


def test_the_reference_belongs_to_the_model_alone(
    make_crystal: Callable[..., Crystal], make_model: Callable[..., GapModel]
) -> None:
    model = make_model()
    assert attribute(model, make_crystal(1)).reference_ev == attribute(model, make_crystal(2)).reference_ev


def test_shares_follow_their_atoms_and_repeat_with_the_cell(
    make_crystal: Callable[..., Crystal], make_model: Callable[..., GapModel]
) -> None:
    model, crystal = make_model(), make_crystal(3)
    found = attribute(model, crystal)
    order = np.random.default_rng(0).permutation(crystal.n_atoms)
    shuffled = replace(
        crystal, frac_coords=crystal.frac_coords[order], atomic_numbers=crystal.atomic_numbers[order]
    )
    moved = attribute(model, shuffled)
    np.testing.assert_allclose(moved.gap_share_ev, found.gap_share_ev[order], atol=1e-5)
    np.testing.assert_allclose(moved.variance_fraction, found.variance_fraction[order], atol=1e-4)
    half = crystal.frac_coords / [2, 1, 1]
    doubled = Crystal(
        crystal.cell * np.array([[2], [1], [1]]),
        np.concatenate([half, half + np.array([0.5, 0, 0])]),
        np.tile(crystal.atomic_numbers, 2),
    )
    twice = attribute(model, doubled)
    both = twice.gap_share_ev.reshape(2, -1)
    np.testing.assert_allclose(both.sum(0), found.gap_share_ev, atol=1e-5)
    np.testing.assert_allclose(both[0], both[1], atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_without_noise_has_no_variance_to_share(
    method: str, make_crystal: Callable[..., Crystal], make_model: Callable[..., GapModel]
) -> None:
    found = attribute(make_model(method), make_crystal(0))
    assert np.isnan(found.variance_ev2) and np.isnan(found.variance_fraction).all()
    assert found.gap_share_ev.sum() == pytest.approx(found.gap_ev - found.reference_ev, abs=2e-5)
