"""A tiny model on disk and small structures, for tests that need some model and some files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif

ZINC_FORMATE = np.array([30, 8, 6, 8, 1])

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has a core of its own


def small_crystal(seed: int, name: str = "small") -> Crystal:
    """Zinc formate in a cell of its own, atoms far apart."""
    rng = np.random.default_rng(seed)
    frac = np.array([[0, 0, 0], [0.31, 0.05, 0], [0.5, 0.12, 0], [0.69, 0.05, 0], [0.5, 0.302, 0]])
    cell = np.diag(rng.uniform(5.9, 6.4, 3))
    return Crystal(cell, frac + rng.normal(scale=0.004, size=frac.shape), ZINC_FORMATE, name)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights: one block of width 16, uncalibrated."""
    import torch

    from mofgap.crystals.graph import crystal_graph
    from mofgap.gap.folder import About, save_model
    from mofgap.gap.model import GapModel, GapModelConfig
    from mofgap.uncertainty.calibrate import Calibration
    from mofgap.uncertainty.novelty import fit_novelty

    torch.manual_seed(0)
    encoder = {"n_blocks": 1, "width": 16, "n_heads": 2, "n_radial": 8, "edge_width": 8, "ffn_width": 16}
    model = GapModel(GapModelConfig(encoder_settings=encoder, head_hidden=16, rank=2, noise_hidden=8)).eval()
    for layer in model.layers.values():
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    # Gaps of some eV, several of them inside 1.8 to 3.0.
    model.gap_mean_ev.fill_(2.4)
    train = [small_crystal(seed) for seed in range(100, 112)]
    features = np.concatenate([model.frozen_features(crystal_graph(c, model.graph_config)) for c in train])
    ids = [f"train-{i}" for i in range(len(train))]
    novelty = fit_novelty(features, [c.atomic_numbers for c in train], ids, n_dims=3, n_neighbours=4)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(folder, model, About("tiny", level_of_theory="PBE"), Calibration.raw(), novelty)
    return folder


@pytest.fixture(scope="session")
def hse_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for another level of theory: its own adapters, head, calibration and known structures."""
    import torch

    from mofgap.gap.folder import About, read_model, save_model
    from mofgap.uncertainty.calibrate import Calibration
    from mofgap.uncertainty.conformal import Residuals
    from mofgap.uncertainty.scaling import Scaling

    model, _, _, novelty = read_model(model_folder)
    torch.manual_seed(1)
    for layer in model.layers.values():
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    model.gap_mean_ev.fill_(3.9)
    residuals = Residuals(tuple(i / 10 for i in range(-40, 41)))
    about = About("tiny-hse", level_of_theory="HSE06 at PBE-D3(BJ) geometry")
    folder = tmp_path_factory.mktemp("model") / "tiny-hse"
    save_model(folder, model, about, Calibration(Scaling(1.5, 0.8), (residuals,)), novelty)
    return folder


@pytest.fixture
def levels(model_folder: Path, hse_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny models in place of those that ``--level`` takes."""
    from mofgap.screening.levels import MODELS

    monkeypatch.setitem(MODELS, "pbe", str(model_folder))
    monkeypatch.setitem(MODELS, "hse06", str(hse_folder))


@pytest.fixture(scope="session")
def write_cifs() -> Callable[[Path, int], list[Path]]:
    """Writes a number of different CIFs into a folder."""

    def write(folder: Path, n: int) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"s{i}.cif" for i in range(n)]
        for i, path in enumerate(paths):
            path.write_text(write_cif(small_crystal(i, path.stem)))
        return paths

    return write
