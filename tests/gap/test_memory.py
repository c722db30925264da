from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch_geometric.data import Data

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.gap.attribution import attribute
from mofgap.gap.folder import About, read_model, save_model
from mofgap.gap.memory import N_NEIGHBOURS, NUGGET, REACH, SHRINKAGE, Memory, Nearby
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import Uncertainty, posterior
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


def test_too_few_structures_are_no_neighbourhood() -> None:
    with pytest.raises(ValueError, match="more than 30"):
        Memory(N_NEIGHBOURS, 4)


def test_a_memory_moves_gap_and_spread_and_is_kept_on_disk(
    make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal], tmp_path: Path
) -> None:
    model = make_model().eval()
    graphs = [crystal_graph(make_crystal(i), model.graph_config) for i in range(N_NEIGHBOURS + 2)]
    with torch.no_grad():
        gap, spread = model(graphs[0])
        remembering(model, graphs)
        pooled = model.pooled(graphs[0])
        nearby = model.memory(pooled)
        assert nearby.missing_ev.item() == pytest.approx(0.3, rel=0.1)
        torch.testing.assert_close(model(graphs[0])[0], gap + nearby.missing_ev)
        torch.testing.assert_close(model(graphs[0])[1], (spread * 0.3 * nearby.remoteness).sqrt())
        features = torch.cat([model.frozen_features(graph) for graph in graphs]).numpy()
    numbers = [graph.atomic_number.numpy() for graph in graphs]
    novelty = fit_novelty(features, numbers, [str(i) for i in range(len(graphs))])
    save_model(tmp_path / "model", model, About("m"), Calibration.raw(), novelty)
    again = read_model(tmp_path / "model")[0]
    with torch.no_grad():
        # Whitening by 32 structures magnifies the rounding of folded adapters.
        torch.testing.assert_close(again(graphs[1]), model(graphs[1]), rtol=1e-2, atol=0)
    model.forget()
    with torch.no_grad():
        assert torch.equal(model(graphs[0])[1], spread)


def remembering(model: GapModel, graphs: list[Data]) -> GapModel:
    """The model with some of the graphs in its memory, of which it misses 0.3 eV each."""
    with torch.no_grad():
        pooled = torch.cat([model.pooled(graph) for graph in graphs])
        model.remember(pooled, model.from_pooled(pooled)[0] + 0.3)
    return model


class Fixed(torch.nn.Module):
    """Stands for a memory: the same error and remoteness everywhere."""

    def __init__(self, remoteness: float) -> None:
        super().__init__()
        self.remoteness = remoteness

    def forward(self, pooled: torch.Tensor) -> Nearby:
        """Nothing missing."""
        return Nearby(*(torch.full((len(pooled),), value) for value in (0.0, 0.3, self.remoteness)))


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


def test_a_model_of_version_1_knows_errors_alone(
    make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal], tmp_path: Path
) -> None:
    model = make_model().eval()
    graphs = [crystal_graph(make_crystal(i), model.graph_config) for i in range(N_NEIGHBOURS + 2)]
    remembering(model, graphs)
    features = torch.cat([model.frozen_features(graph) for graph in graphs]).numpy()
    numbers = [graph.atomic_number.numpy() for graph in graphs]
    novelty = fit_novelty(features, numbers, [str(i) for i in range(len(graphs))])
    folder = tmp_path / "model"
    save_model(folder, model, About("m"), Calibration.raw(), novelty)
    weights = load_file(folder / "model.safetensors")
    del weights["memory.spacing"]
    weights["memory.error_ev"] = weights.pop("memory.residual_ev").abs()
    save_file(weights, folder / "model.safetensors")
    described = json.loads((folder / "config.json").read_text())
    described["version"] = 1
    written = (folder / "model.safetensors").read_bytes()
    described["sha256"]["model.safetensors"] = hashlib.sha256(written).hexdigest()
    (folder / "config.json").write_text(json.dumps(described))
    old = read_model(folder)[0]
    with torch.no_grad():
        gap, spread, remoteness = old.from_pooled(old.pooled(graphs[0]))
        pooled = model.pooled(graphs[0])
        new_gap, new_spread, factor = model.from_pooled(pooled)
        assert model.memory is not None
        missing = model.memory(pooled).missing_ev
    assert remoteness.item() == 1.0
    torch.testing.assert_close(gap + missing, new_gap)
    torch.testing.assert_close(spread * factor.sqrt(), new_spread)
