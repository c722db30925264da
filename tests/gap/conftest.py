from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mofgap.choices import Adaptation
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.gap.folder import About, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.predictor import GapPredictor
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex, fit_novelty

TINY_ENCODER = {
    "n_blocks": 2,
    "width": 16,
    "n_heads": 4,
    "n_radial": 8,
    "edge_width": 8,
    "ffn_width": 24,
    "n_neighbours": 8,
}


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
def make_model() -> Callable[..., GapModel]:
    def make(method: Adaptation = "balora", seed: int = 0) -> GapModel:
        """Random weights, B too, so that the adapters do something; the gaps have a scale of their own."""
        torch.manual_seed(seed)
        config = GapModelConfig(
            method=method, encoder_settings=TINY_ENCODER, head_hidden=16, rank=3, lora_alpha=6.0
        )
        model = GapModel(config)
        for layer in model.layers.values():
            torch.nn.init.normal_(layer.lora_B, std=0.2)
        model.gap_mean_ev.fill_(2.1)
        model.gap_std_ev.fill_(1.1)
        return model.eval()

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
