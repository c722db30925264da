from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.gap.folder import About, save_model
from mofgap.gap.model import GapModel
from mofgap.gap.predictor import GapPredictor
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex, fit_novelty


@pytest.fixture(scope="session")
def make_crystal() -> Callable[..., Crystal]:
    def make(seed: int, n_atoms: int = 7) -> Crystal:
        """Atoms at least 0.8 angstrom apart in a skewed cell of light elements and a metal."""
        rng = np.random.default_rng(seed)
        cell = np.diag(rng.uniform(5, 8, 3)) + rng.normal(0, 0.8, (3, 3))
        coords = rng.random((1, 3))
        while len(coords) < n_atoms:
            new = rng.random((1, 3))
            gap = coords - new
            if np.linalg.norm((gap - np.round(gap)) @ cell, axis=1).min() > 0.8:
                coords = np.vstack([coords, new])
        numbers = np.append(rng.choice([1, 6, 7, 8], n_atoms - 1), 30)
        return Crystal(cell, coords, numbers, f"made-{seed}")

    return make


@pytest.fixture(scope="session")
def make_novelty(make_crystal: Callable[..., Crystal]) -> Callable[[GapModel], NoveltyIndex]:
    def make(model: GapModel) -> NoveltyIndex:
        crystals = [make_crystal(1000 + i, 4 + i % 5) for i in range(30)]
        graphs = [crystal_graph(c, model.graph_config) for c in crystals]
        features = np.concatenate([model.frozen_features(graph).numpy() for graph in graphs])
        return fit_novelty(features, [c.atomic_numbers for c in crystals], [c.structure_id for c in crystals])

    return make


@pytest.fixture(scope="session")
def predictor(
    make_model: Callable[..., GapModel], make_novelty: Callable[[GapModel], NoveltyIndex]
) -> GapPredictor:
    model = make_model().requires_grad_(False)
    return GapPredictor(model, About("tiny"), Calibration.raw(), make_novelty(model))


@pytest.fixture
def folder(tmp_path: Path, predictor: GapPredictor) -> Path:
    path = tmp_path / "tiny"
    save_model(path, predictor.model, predictor.about, predictor.calibration, predictor.novelty)
    return path
