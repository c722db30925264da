from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.gap.folder import About, read_model, save_model
from mofgap.gap.memory import N_NEIGHBOURS, Memory
from mofgap.gap.model import GapModel
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import fit_novelty


def filled(n: int = 200, d: int = 6) -> tuple[Memory, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(n, d, generator=generator) * torch.tensor([1.0, 5.0, 0.1, 2.0, 1.0, 0.0])
    error = torch.rand(n, generator=generator)
    memory = Memory(n, d)
    memory.fit(pooled, error)
    return memory, pooled, error


def test_the_local_error_is_the_weighted_mean_of_the_nearest() -> None:
    memory, pooled, error = filled()
    query = pooled[:3] + 0.05
    points = ((query - memory.mean) @ memory.projection).double().numpy()
    stored = memory.points.double().numpy()
    for point, found in zip(points, memory(query), strict=True):
        distance = np.linalg.norm(stored - point, axis=1)
        order = np.argsort(distance)[: N_NEIGHBOURS + 1]
        weight = (1 - (distance[order] / distance[order[-1]]) ** 2) ** 2
        expected = (weight * error.numpy()[order]).sum() / weight.sum()
        assert found.item() == pytest.approx(expected, abs=1e-4)


def test_the_local_error_moves_smoothly_while_neighbours_change() -> None:
    memory, pooled, _ = filled()
    way = torch.linspace(0, 1, 4001)[:, None]
    along = memory(pooled[:1] * (1 - way) + pooled[1:2] * way)
    assert along.diff().abs().max() < 2e-3 < along.max() - along.min()


def test_features_that_never_vary_are_ignored() -> None:
    memory, pooled, _ = filled()
    moved = pooled[:4].clone()
    moved[:, 5] += 100
    torch.testing.assert_close(memory(moved), memory(pooled[:4]))


def test_too_few_structures_are_no_neighbourhood() -> None:
    with pytest.raises(ValueError, match="more than 30"):
        Memory(N_NEIGHBOURS, 4)


def test_a_memory_changes_the_spread_alone_and_is_kept_on_disk(
    make_model: Callable[..., GapModel], make_crystal: Callable[[int], Crystal], tmp_path: Path
) -> None:
    model = make_model().eval()
    graphs = [crystal_graph(make_crystal(i), model.graph_config) for i in range(N_NEIGHBOURS + 2)]
    with torch.no_grad():
        gap, spread = model(graphs[0])
        pooled = torch.cat([model.pooled(graph) for graph in graphs])
        model.remember(pooled, torch.full((len(graphs),), 0.3))
        assert torch.equal(model(graphs[0])[0], gap)
        torch.testing.assert_close(model(graphs[0])[1], (spread * 0.3).sqrt())
        features = torch.cat([model.frozen_features(graph) for graph in graphs]).numpy()
    numbers = [graph.atomic_number.numpy() for graph in graphs]
    novelty = fit_novelty(features, numbers, [str(i) for i in range(len(graphs))])
    save_model(tmp_path / "model", model, About("m"), Calibration.raw(), novelty)
    again = read_model(tmp_path / "model")[0]
    with torch.no_grad():
        torch.testing.assert_close(again(graphs[1]), model(graphs[1]))
    model.forget()
    with torch.no_grad():
        assert torch.equal(model(graphs[0])[1], spread)
