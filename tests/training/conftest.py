from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.training.atoms import ATOM_TARGETS

ELEMENTS = np.array([1, 6, 8, 30])
SPLITS = ("train", "train", "train", "val", "train", "test")

TINY_ENCODER = CrystalTransformerConfig(
    n_blocks=1, width=16, n_heads=4, n_radial=8, edge_width=8, ffn_width=16, n_neighbours=6
)


def places(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, 3) fractional coordinates near points of a grid, no two of the same."""
    grid = np.stack(np.unravel_index(rng.permutation(27)[:n], (3, 3, 3)), axis=1)
    return (grid + rng.uniform(0, 0.4, (n, 3))) / 3


def tiny_row(index: int) -> dict[str, object]:
    """A small crystal whose gap and atomic targets follow from its elements, so that they can be learnt."""
    rng = np.random.default_rng(index)
    n = int(rng.integers(3, 8))
    numbers = rng.choice(ELEMENTS, n)
    return {
        "structure_id": f"tiny-{index:02d}",
        "cell_angstrom": (np.eye(3) * 6 + rng.normal(0, 0.2, (3, 3))).ravel(),
        "atomic_numbers": numbers,
        "frac_coords": places(rng, n).ravel(),
        "gap_ev": 4 * float((numbers == 8).mean()) + 0.1 * float(rng.random()),
        "split": SPLITS[index % len(SPLITS)],
        **{name: np.sqrt(numbers) / 5 + 0.01 * rng.normal(size=n) for name in ATOM_TARGETS},
    }


@pytest.fixture(scope="session")
def tiny_frame() -> pd.DataFrame:
    return pd.DataFrame([tiny_row(i) for i in range(30)])


@pytest.fixture(scope="session")
def tiny_encoder() -> CrystalTransformerConfig:
    return TINY_ENCODER


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_file(CrystalTransformer(TINY_ENCODER).state_dict(), path)
    return path
