"""A tiny model on disk and small structures, for tests that need some model and some files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif

if TYPE_CHECKING:
    from mofgap.choices import Adaptation
    from mofgap.gap.model import GapModel
    from mofgap.gap.predictor import GapPredictor

ZINC_FORMATE = np.array([30, 8, 6, 8, 1])

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has a core of its own
# A busy machine is no fault: no example has to end within a time.
settings.register_profile("mofgap", deadline=None)
settings.load_profile("mofgap")


def small_crystal(seed: int, name: str = "small") -> Crystal:
    """Zinc formate in a cell of its own, atoms far apart."""
    rng = np.random.default_rng(seed)
    frac = np.array([[0, 0, 0], [0.31, 0.05, 0], [0.5, 0.12, 0], [0.69, 0.05, 0], [0.5, 0.302, 0]])
    cell = np.diag(rng.uniform(5.9, 6.4, 3))
    return Crystal(cell, frac + rng.normal(scale=0.004, size=frac.shape), ZINC_FORMATE, name)


@pytest.fixture(scope="session")
def make_row() -> Callable[..., dict[str, Any]]:
    def make(
        rng: np.random.Generator, most: int = 7, elements: Sequence[int] = (1, 6, 8, 30)
    ) -> dict[str, Any]:
        """Columns of a crystal: three atoms or more near points of a grid, no two near the same."""
        n = int(rng.integers(3, most + 1))
        numbers, cell = rng.choice(elements, n), np.eye(3) * 6 + rng.normal(0, 0.2, (3, 3))
        grid = np.stack(np.unravel_index(rng.permutation(27)[:n], (3, 3, 3)), axis=1)
        frac = (grid + rng.uniform(0, 0.4, (n, 3))) / 3
        return {"cell_angstrom": cell.ravel(), "atomic_numbers": numbers, "frac_coords": frac.ravel()}

    return make


@pytest.fixture(scope="session")
def make_labelled_row(make_row: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    from mofgap.training.atoms import ATOM_TARGETS

    def make(index: int, splits: Sequence[str]) -> dict[str, Any]:
        """A row of a table: its gap and atomic targets follow from its elements, which a network can find."""
        rng = np.random.default_rng(index)
        row = make_row(rng)
        numbers = row["atomic_numbers"]
        return {
            **row,
            "structure_id": f"tiny-{index:02d}",
            "gap_ev": 4 * float((numbers == 8).mean()) + 0.1 * float(rng.random()),
            "split": splits[index % len(splits)],
            **{name: np.sqrt(numbers) / 5 + 0.01 * rng.normal(size=len(numbers)) for name in ATOM_TARGETS},
        }

    return make


@pytest.fixture(scope="session")
def make_model() -> Callable[..., GapModel]:
    import torch

    from mofgap.gap.model import GapModel, GapModelConfig

    encoder = {"n_blocks": 2, "width": 16, "n_heads": 4, "n_radial": 8, "edge_width": 8, "ffn_width": 24}
    encoder["n_neighbours"] = 8

    def make(method: Adaptation = "balora", seed: int = 0, **settings: Any) -> GapModel:
        """Random weights, B too, so that the adapters do something; the gaps have a scale of their own."""
        torch.manual_seed(seed)
        how = {"encoder_settings": encoder, "head_hidden": 16, "rank": 3, "lora_alpha": 6.0, **settings}
        model = GapModel(GapModelConfig(method=method, **how))
        for layer in model.layers.values():
            torch.nn.init.normal_(layer.lora_B, std=0.2)
        model.gap_mean_ev.fill_(2.1)
        model.gap_std_ev.fill_(1.1)
        return model.eval()

    return make


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
def tiny(model_folder: Path) -> GapPredictor:
    from mofgap.gap.predictor import load_model

    return load_model(model_folder, "cpu")


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
def functions_of_tests(monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config) -> None:
    """Lets other processes import what a test sends them. Last, so that an installed mofgap stays first."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(pytestconfig.rootpath)])


@pytest.fixture
def levels(model_folder: Path, hse_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny models in place of those that ``--level`` takes."""
    from mofgap.screening.levels import MODELS

    monkeypatch.setitem(MODELS, "pbe", str(model_folder))
    monkeypatch.setitem(MODELS, "hse06", str(hse_folder))


@pytest.fixture(scope="session")
def write_mixed(write_cifs: Callable[[Path, int], list[Path]]) -> Callable[[Path, int], Path]:
    def write(folder: Path, n: int) -> Path:
        """Write ``n`` good files, one with two blocks of which one is bad, and one that is empty."""
        one, two, *_ = (path.read_text() for path in write_cifs(folder, n))
        (folder / "s1b.cif").write_text(one + two.replace("_cell_length_a", "_x"))
        (folder / "u.cif").write_text("")
        return folder

    return write


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
