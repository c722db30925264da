from __future__ import annotations

import io
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch

from mofgap.gap.correction import (
    N_NEIGHBOURS,
    N_SKETCH,
    NUGGET,
    REACH,
    SHRINKAGE,
    Correction,
    NeighbourCorrection,
)


def fitted(n: int = 200, d: int = 6) -> tuple[NeighbourCorrection, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(n, d, generator=generator) * torch.tensor([1.0, 5.0, 0.1, 2.0, 1.0, 0.0])
    residual = torch.rand(n, generator=generator) - 0.4
    correction = NeighbourCorrection(n, d)
    correction.fit(pooled, residual)
    return correction, pooled, residual


def place(correction: NeighbourCorrection, pooled: torch.Tensor) -> np.ndarray:
    """Where structures stand by their pooled features alone, in double precision."""
    found: np.ndarray = ((pooled - correction.mean) @ correction.projection).double().numpy()
    return found


def usual_spacing(points: np.ndarray) -> float:
    between = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(between, np.inf)
    return float(between.min(1).mean())


def test_constants_are_those_that_shipped_models_were_calibrated_with() -> None:
    found = (N_NEIGHBOURS, N_SKETCH, REACH, SHRINKAGE, NUGGET)
    assert found == (30, 64, 0.35, 0.03, 0.1)


def test_every_value_against_brute_force() -> None:
    correction, pooled, residual = fitted()
    query = pooled[:5] + 0.05
    stored, left = correction.points.double().numpy(), residual.double().numpy()
    spacing = usual_spacing(stored)
    found = correction(query)
    for i, point in enumerate(place(correction, query)):
        distance = np.linalg.norm(stored - point, axis=1)
        order = np.argsort(distance)[: N_NEIGHBOURS + 1]
        near = distance[order]
        weight = (1 - (near / near[-1]) ** 2) ** 2
        error = (weight * abs(left[order])).sum() / weight.sum()
        weight = weight * np.exp(-near / (REACH * spacing))
        expected = (weight * left[order]).sum() / (weight.sum() + SHRINKAGE)
        relative = (distance.min() / spacing + NUGGET) / (1 + NUGGET)
        std = np.sqrt(np.mean(left**2) * relative)  # a head's distance has no unit
        for name, value in zip(Correction._fields, (expected, error, relative, std), strict=True):
            assert getattr(found, name)[i].item() == pytest.approx(value, abs=1e-4), name


def test_no_residual_is_expected_far_from_everything() -> None:
    correction, pooled, _ = fitted()
    assert correction(pooled[:5] + 1000).residual_ev.abs().max() < 1e-6


def test_everything_moves_smoothly_while_neighbours_change() -> None:
    correction, pooled, _ = fitted()
    way = torch.linspace(0, 1, 4001)[:, None]
    for along in correction(pooled[:1] * (1 - way) + pooled[1:2] * way):
        assert along.diff().abs().max() < 4e-3 < along.max() - along.min()


def test_a_training_structure_has_the_nugget_for_a_distance() -> None:
    correction, pooled, _ = fitted()
    np.testing.assert_allclose(
        correction(pooled[:9]).relative_distance.numpy(), NUGGET / (1 + NUGGET), atol=2e-3
    )


def test_one_structure_or_many_give_the_same() -> None:
    correction, pooled, _ = fitted()
    together = correction(pooled[:40] + 0.1)
    alone = [correction(row[None] + 0.1) for row in pooled[:40]]
    for i, each in enumerate(zip(*alone, strict=True)):
        torch.testing.assert_close(together[i], torch.cat(each))


def test_features_that_never_vary_are_ignored() -> None:
    correction, pooled, _ = fitted()
    moved = pooled[:4].clone()
    moved[:, 5] += 100
    torch.testing.assert_close(correction(moved), correction(pooled[:4]))


def test_units_of_features_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    pooled = torch.randn(400, 40, generator=generator) @ torch.randn(40, 40, generator=generator)
    scale = torch.logspace(-2, 2, 40)
    distances = []
    for features in (pooled, pooled * scale):
        correction = NeighbourCorrection(300, 40)
        correction.fit(features[:300], torch.zeros(300))
        distances.append(correction(features[300:]).relative_distance)
    torch.testing.assert_close(*distances, rtol=1e-3, atol=0)


def test_it_keeps_copies_since_another_process_may_take_its_buffers() -> None:
    correction, pooled, _ = fitted()
    correction(pooled[:1])
    views = correction._here
    for kept, buffer in (
        (views.mean, "mean"),
        (views.projection, "projection"),
        (views.residual_ev, "residual_ev"),
    ):
        assert not np.shares_memory(kept, getattr(correction, buffer).numpy()), buffer
    ForkingPickler(io.BytesIO(), 5).dump(correction)  # moves the buffers to shared memory
    np.testing.assert_array_equal(correction(pooled[:3]).std_ev, fitted()[0](pooled[:3]).std_ev)


def test_too_few_structures_are_no_neighbourhood() -> None:
    with pytest.raises(ValueError, match=f"more than {N_NEIGHBOURS}"):
        NeighbourCorrection(N_NEIGHBOURS, 4)


def test_by_gradients_the_spread_is_the_distance_and_a_nugget() -> None:
    """Gradients and head have the same say in units of what is usual, but for the head's weight."""
    _, pooled, residual = fitted()
    gradients = 0.01 * torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    both = NeighbourCorrection(200, 6, 8)
    both.fit(pooled, residual, gradients)
    stored = both.points.double().numpy()
    np.testing.assert_array_equal(stored[:, :8], gradients.half().double().numpy())
    assert usual_spacing(stored[:, 8:]) == pytest.approx(usual_spacing(stored[:, :8]), rel=1e-3)
    found = both(pooled[:3] + 0.1, gradients[:3] + 0.01)
    point = np.hstack([(gradients[:3] + 0.01).double().numpy(), place(both, pooled[:3] + 0.1)])
    nearest = np.linalg.norm(point[:, None] - stored[None], axis=2).min(1)
    spacing = usual_spacing(stored)
    np.testing.assert_allclose(found.std_ev.numpy(), nearest + NUGGET * spacing, rtol=1e-4)
    np.testing.assert_allclose(
        found.relative_distance.numpy(), (nearest / spacing + NUGGET) / (1 + NUGGET), rtol=1e-4
    )


def test_loaded_values_take_the_place_of_those_it_was_used_with() -> None:
    correction, pooled, residual = fitted()
    other = NeighbourCorrection(200, 6)
    other.fit(pooled, residual + 1)
    before = correction(pooled[:3])
    correction.load_state_dict(other.state_dict())
    torch.testing.assert_close(correction(pooled[:3]).residual_ev, other(pooled[:3]).residual_ev)
    assert (correction(pooled[:3]).residual_ev - before.residual_ev).abs().min() > 0.1


@pytest.mark.parametrize("n_sketch", [0, 16])
@pytest.mark.parametrize(("n", "copies"), [(31, 1), (32, 1), (40, 1), (250, 4)])
def test_new_structures_are_about_as_far_as_training_structures_are_from_each_other(
    n: int, copies: int, n_sketch: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(n + 100, 96, generator=generator) @ torch.randn(96, 96, generator=generator) / 10
    gradients = 0.1 * torch.randn(n + 100, n_sketch, generator=generator) if n_sketch else None
    correction = NeighbourCorrection(n * copies, 96, n_sketch)
    kept = None if gradients is None else gradients[:n].repeat(copies, 1)
    correction.fit(pooled[:n].repeat(copies, 1), torch.zeros(n * copies), kept)
    near = correction(pooled[n:], None if gradients is None else gradients[n:])
    if copies == 1:
        assert 0.3 < near.relative_distance.median() < 3
    else:  # distances of twins are nothing to measure others by
        assert (near.relative_distance == 1).all()
