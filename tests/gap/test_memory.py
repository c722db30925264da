from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mofgap.choices import Uncertainty
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import CrystalGraph, crystal_graph
from mofgap.gap.attribution import attribute
from mofgap.gap.folder import About, read_model, save_model
from mofgap.gap.memory import HEAD_WEIGHT, N_NEIGHBOURS, N_SKETCH, NUGGET, REACH, SHRINKAGE, Memory, Nearby
from mofgap.gap.model import METHODS, GapModel, Method
from mofgap.gap.posterior import Mean, at_mean, posterior, remember
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import fit_novelty


def filled(n: int = 200, d: int = 6) -> tuple[Memory, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(n, d, generator=generator) * torch.tensor([1.0, 5.0, 0.1, 2.0, 1.0, 0.0])
    residual = torch.rand(n, generator=generator) - 0.4
    memory = Memory(n, d)
    memory.fit(pooled, residual)
    return memory, pooled, residual


def test_error_and_what_is_missing_are_means_over_the_nearest() -> None:
    memory, pooled, residual = filled()
    query = pooled[:3] + 0.05
    points = ((query - memory.mean) @ memory.projection).double().numpy()
    stored = memory.points.double().numpy()
    found = memory(query)
    for i, point in enumerate(points):
        distance = np.linalg.norm(stored - point, axis=1)
        order = np.argsort(distance)[: N_NEIGHBOURS + 1]
        near, left = distance[order], residual.double().numpy()[order]
        weight = (1 - (near / near[-1]) ** 2) ** 2
        assert found.error_ev[i].item() == pytest.approx((weight * abs(left)).sum() / weight.sum(), abs=1e-4)
        weight = weight * np.exp(-near / (REACH * memory.spacing.item()))
        missing = (weight * left).sum() / (weight.sum() + SHRINKAGE)
        assert found.missing_ev[i].item() == pytest.approx(missing, abs=1e-4)


def test_nothing_is_missing_far_from_everything() -> None:
    memory, pooled, _ = filled()
    assert memory(pooled[:5] + 1000).missing_ev.abs().max() < 1e-6


def test_everything_moves_smoothly_while_neighbours_change() -> None:
    memory, pooled, _ = filled()
    way = torch.linspace(0, 1, 4001)[:, None]
    for along in memory(pooled[:1] * (1 - way) + pooled[1:2] * way):
        assert along.diff().abs().max() < 4e-3 < along.max() - along.min()


def test_remoteness_is_the_distance_of_the_nearest_in_units_of_what_is_usual() -> None:
    memory, pooled, _ = filled()
    stored = memory.points.double().numpy()
    between = np.linalg.norm(stored[:, None] - stored[None], axis=2)
    np.fill_diagonal(between, np.inf)
    usual = between.min(1).mean()
    query = pooled[:5] + 0.3
    points = ((query - memory.mean) @ memory.projection).double().numpy()
    nearest = np.linalg.norm(points[:, None] - stored[None], axis=2).min(1)
    expected = (nearest / usual + NUGGET) / (1 + NUGGET)
    np.testing.assert_allclose(memory(query).remoteness.numpy(), expected, rtol=1e-4)


def test_what_was_learnt_is_not_remote_at_all() -> None:
    memory, pooled, _ = filled()
    np.testing.assert_allclose(memory(pooled[:9]).remoteness.numpy(), NUGGET / (1 + NUGGET), atol=1e-4)


def test_one_structure_or_many_are_remembered_alike() -> None:
    memory, pooled, _ = filled()
    together = memory(pooled[:40] + 0.1)
    alone = [memory(row[None] + 0.1) for row in pooled[:40]]
    for i, each in enumerate(zip(*alone, strict=True)):
        torch.testing.assert_close(together[i], torch.cat(each))


def test_features_that_never_vary_are_ignored() -> None:
    memory, pooled, _ = filled()
    moved = pooled[:4].clone()
    moved[:, 5] += 100
    torch.testing.assert_close(memory(moved), memory(pooled[:4]))


def test_units_of_features_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    pooled = torch.randn(400, 40, generator=generator) @ torch.randn(40, 40, generator=generator)
    scale = torch.logspace(-2, 2, 40)
    remoteness = []
    for features in (pooled, pooled * scale):
        memory = Memory(300, 40)
        memory.fit(features[:300], torch.zeros(300))
        remoteness.append(memory(features[300:]).remoteness)
    torch.testing.assert_close(*remoteness, rtol=1e-3, atol=0)


def test_too_few_structures_are_no_neighbourhood() -> None:
    with pytest.raises(ValueError, match="more than 30"):
        Memory(N_NEIGHBOURS, 4)


def test_what_is_learnt_about_gradients_stands_beside_the_head() -> None:
    """Both parts have the same say in units of what is usual, but for the head's weight."""
    memory, pooled, residual = filled()
    gradients = 0.01 * torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    both = Memory(200, 6, 8)
    both.fit(pooled, residual, gradients)
    assert torch.equal(both.points[:, :8], gradients)

    def usual(points: torch.Tensor) -> float:
        return float(torch.cdist(points, points).topk(2, largest=False).values[:, 1].mean())

    assert usual(both.points[:, 8:]) == pytest.approx(HEAD_WEIGHT * usual(gradients), rel=1e-3)
    found = both(pooled[:3] + 0.1, gradients[:3] + 0.01)
    place = torch.cat([gradients[:3] + 0.01, (pooled[:3] + 0.1 - both.mean) @ both.projection], 1)
    nearest = torch.cdist(place, both.points).amin(1)
    torch.testing.assert_close(found.remoteness, (nearest / both.spacing + NUGGET) / (1 + NUGGET))
    # The posterior's variance becomes the squared distance from the nearest.
    variance = torch.tensor([0.5, 1.0, 2.0])
    std = (variance * both.noise_factor(found.remoteness, variance)).sqrt()
    torch.testing.assert_close(std, nearest + NUGGET * both.spacing)
    assert torch.equal(memory.noise_factor(found.remoteness, variance), found.remoteness)


def looked(model: GapModel, graph: CrystalGraph) -> Mean:
    """The model at its mean, gradients and all."""
    return at_mean(model, graph, doubt=bool(model.layers))


@pytest.mark.parametrize("method", METHODS)
def test_a_memory_moves_gap_and_spread_and_is_kept_on_disk(
    method: Method,
    make_model: Callable[..., GapModel],
    make_crystal: Callable[[int], Crystal],
    tmp_path: Path,
) -> None:
    model = make_model(method).eval().requires_grad_(False)
    graphs = [crystal_graph(make_crystal(i), model.graph_config) for i in range(N_NEIGHBOURS + 2)]
    plain = looked(model, graphs[0])
    assert plain.recalled(plain.gap_ev, plain.spread_ev) == (plain.gap_ev, plain.spread_ev)
    remembering(model, graphs)
    assert model.config.memory_sketch == (0 if method == "full" else N_SKETCH)
    found = looked(model, graphs[0])
    assert found.nearby is not None
    torch.testing.assert_close((found.gap_ev, found.spread_ev), (plain.gap_ev, plain.spread_ev))
    gap, spread = found.recalled(found.gap_ev, found.spread_ev)
    torch.testing.assert_close(gap, plain.gap_ev + found.nearby.missing_ev)
    torch.testing.assert_close(spread, (plain.spread_ev * 0.3 * found.remoteness).sqrt())
    assert found.nearby.missing_ev.item() == pytest.approx(0.3, rel=0.1)
    features = torch.cat([model.frozen_features(graph) for graph in graphs]).numpy()
    numbers = [graph.atomic_number.numpy() for graph in graphs]
    novelty = fit_novelty(features, numbers, [str(i) for i in range(len(graphs))])
    save_model(tmp_path / "model", model, About("m"), Calibration.raw(), novelty)
    again = read_model(tmp_path / "model")[0]
    for name in ("gap_ev", "aleatoric_std_ev", "epistemic_std_ev"):
        # Whitening by 32 structures magnifies the rounding of folded adapters.
        before, after = (getattr(posterior(each, graphs[1]), name) for each in (model, again))
        np.testing.assert_allclose(after, before, rtol=2e-2)
    model.forget()
    assert looked(model, graphs[0]).nearby is None


@pytest.mark.parametrize("samples", [0, 4])
def test_every_way_of_predicting_recalls_the_same(
    samples: int, make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal]
) -> None:
    model = make_model().eval().requires_grad_(False)
    graphs = [crystal_graph(make_crystal(i), model.graph_config) for i in range(N_NEIGHBOURS + 4)]
    before = posterior(model, graphs[-1], uncertainty="weights", samples=samples)
    remembering(model, graphs[:-1])
    exact = posterior(model, graphs[-1])
    after = posterior(model, graphs[-1], uncertainty="weights", samples=samples)
    missing = looked(model, graphs[-1]).nearby
    assert missing is not None
    if not samples:
        np.testing.assert_allclose(after.gap_ev - before.gap_ev, missing.missing_ev.numpy(), rtol=1e-4)
        np.testing.assert_allclose(after.gap_ev, exact.gap_ev, rtol=1e-5)
    # Draws lie about the mean as the closed form says: as far as the nearest structure is.
    many = posterior(model, graphs[-1], uncertainty="weights", samples=400)
    assert many.epistemic_std_ev[0] == pytest.approx(exact.epistemic_std_ev[0], rel=0.2)


def test_a_structure_that_was_learnt_is_hardly_doubted(
    make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal]
) -> None:
    model = make_model().eval().requires_grad_(False)
    graphs = [crystal_graph(make_crystal(i), model.graph_config) for i in range(N_NEIGHBOURS + 4)]
    free = [posterior(model, graph).epistemic_std_ev[0] for graph in graphs]
    remembering(model, graphs[:-2])
    assert model.memory is not None
    known = [posterior(model, graph).epistemic_std_ev[0] for graph in graphs]
    np.testing.assert_allclose(known[:-2], NUGGET * float(model.memory.spacing), rtol=1e-2)
    assert min(known[-2:]) > 5 * max(known[:-2])
    assert max(known[:-2]) < min(free)


def remembering(model: GapModel, graphs: list[CrystalGraph]) -> GapModel:
    """The model with some of the graphs in its memory, of which it misses 0.3 eV each."""
    with torch.no_grad():
        gap_ev = torch.cat([model(graph)[0] for graph in graphs])
    remember(model, graphs, gap_ev + 0.3)
    return model


class Fixed(torch.nn.Module):
    """Stands for a memory: the same error and remoteness everywhere."""

    n_sketch = 0

    def __init__(self, remoteness: float) -> None:
        super().__init__()
        self.remoteness = remoteness

    def forward(self, pooled: torch.Tensor, gradients: None) -> Nearby:
        """Nothing missing."""
        return Nearby(*(torch.full((len(pooled),), value) for value in (0.0, 0.3, self.remoteness)))

    def noise_factor(self, remoteness: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
        """As without gradients."""
        return remoteness


@pytest.mark.parametrize("uncertainty", ["closed-form", "weights", "rows"])
def test_the_posterior_widens_with_remoteness(
    uncertainty: Uncertainty, make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal]
) -> None:
    model = make_model().eval()
    graph = crystal_graph(make_crystal(0), model.graph_config)
    found = []
    for remoteness in (1.0, 0.01):
        model.memory = Fixed(remoteness)  # type: ignore[assignment]
        found.append(posterior(model, graph, uncertainty=uncertainty, samples=64))
    # The draws are the same but for their size, and the gap is not quite linear in them.
    tolerance = 1e-4 if uncertainty == "closed-form" else 0.25
    ratio = found[1].epistemic_std_ev[0] / found[0].epistemic_std_ev[0]
    assert ratio == pytest.approx(0.1, rel=tolerance)
    assert found[1].aleatoric_std_ev[0] == pytest.approx(0.1 * found[0].aleatoric_std_ev[0], rel=tolerance)


def test_atoms_share_the_widened_variance_and_nothing_of_what_is_missing(
    make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal]
) -> None:
    model = make_model().eval()
    crystals = [make_crystal(i) for i in range(N_NEIGHBOURS + 4)]
    plain = attribute(model, crystals[-1])
    graphs = [crystal_graph(crystal, model.graph_config) for crystal in crystals]
    remembering(model, graphs)
    found = attribute(model, crystals[-1])
    assert found.gap_ev - plain.gap_ev == pytest.approx(0.3, rel=0.1)
    assert found.gap_share_ev.sum() == pytest.approx(found.gap_ev - found.reference_ev, abs=1e-4)
    np.testing.assert_allclose(found.gap_share_ev, plain.gap_share_ev, atol=1e-6)
    assert 0 < found.variance_ev2 < plain.variance_ev2
    assert found.variance_share_ev2.sum() == pytest.approx(found.variance_ev2, rel=1e-4)


def old_folder(model: GapModel, graphs: list[CrystalGraph], folder: Path, version: int) -> GapModel:
    """A model with a memory of the head's features, as it was kept at a version, and read again."""
    with torch.no_grad():
        pooled = torch.cat([model.pooled(graph) for graph in graphs])
        features = torch.cat([model.frozen_features(graph) for graph in graphs]).numpy()
        model.remember(pooled, None, model.from_pooled(pooled)[0] + 0.3)
    numbers = [graph.atomic_number.numpy() for graph in graphs]
    novelty = fit_novelty(features, numbers, [str(i) for i in range(len(graphs))])
    save_model(folder, model, About("m"), Calibration.raw(), novelty)
    described = json.loads((folder / "config.json").read_text())
    described["version"] = version
    del described["model"]["memory_sketch"]
    if version == 1:
        weights = load_file(folder / "model.safetensors")
        del weights["memory.spacing"]
        weights["memory.error_ev"] = weights.pop("memory.residual_ev").abs()
        save_file(weights, folder / "model.safetensors")
        written = (folder / "model.safetensors").read_bytes()
        described["sha256"]["model.safetensors"] = hashlib.sha256(written).hexdigest()
    (folder / "config.json").write_text(json.dumps(described))
    return read_model(folder)[0]


@pytest.mark.parametrize("version", [1, 2])
def test_old_models_remember_by_the_head_alone(
    version: int, make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal], tmp_path: Path
) -> None:
    model = make_model().eval().requires_grad_(False)
    graphs = [crystal_graph(make_crystal(i), model.graph_config) for i in range(N_NEIGHBOURS + 4)]
    plain = posterior(model, graphs[-1])
    old = old_folder(model, graphs[:-1], tmp_path / "model", version)
    found, nearby = posterior(old, graphs[-1]), looked(old, graphs[-1]).nearby
    assert nearby is not None
    known = version == 2  # signs and distances
    assert (nearby.missing_ev.item() != 0) is known and (nearby.remoteness.item() != 1) is known
    remoteness = nearby.remoteness.double().numpy()
    np.testing.assert_allclose(found.gap_ev, plain.gap_ev + nearby.missing_ev.numpy(), rtol=1e-4)
    np.testing.assert_allclose(found.epistemic_std_ev, plain.epistemic_std_ev * remoteness**0.5, rtol=1e-3)
    spread = (plain.aleatoric_std_ev * 0.3 * remoteness) ** 0.5
    np.testing.assert_allclose(found.aleatoric_std_ev, spread, rtol=1e-3)


@pytest.mark.parametrize("n_sketch", [0, 16])
@pytest.mark.parametrize(("n", "copies"), [(31, 1), (32, 1), (40, 1), (250, 4)])
def test_new_structures_are_about_as_remote_as_the_remembered_are_from_each_other(
    n: int, copies: int, n_sketch: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(n + 100, 96, generator=generator) @ torch.randn(96, 96, generator=generator) / 10
    gradients = 0.1 * torch.randn(n + 100, n_sketch, generator=generator) if n_sketch else None
    memory = Memory(n * copies, 96, n_sketch)
    kept = None if gradients is None else gradients[:n].repeat(copies, 1)
    memory.fit(pooled[:n].repeat(copies, 1), torch.zeros(n * copies), kept)
    near = memory(pooled[n:], None if gradients is None else gradients[n:])
    if copies == 1:
        assert 0.3 < near.remoteness.median() < 3
    else:  # distances of twins are nothing to measure others by
        assert (near.remoteness == 1).all()
