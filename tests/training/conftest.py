from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig

SPLITS = ("train", "train", "train", "val", "train", "test")

TINY_ENCODER = CrystalTransformerConfig(
    n_blocks=1, width=16, n_heads=4, n_radial=8, edge_width=8, ffn_width=16, n_neighbours=6
)


@pytest.fixture(scope="session")
def tiny_frame(make_labelled_row: Callable[..., dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([make_labelled_row(i, SPLITS) for i in range(30)])


@pytest.fixture(scope="session")
def tiny_encoder() -> CrystalTransformerConfig:
    return TINY_ENCODER


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_file(CrystalTransformer(TINY_ENCODER).state_dict(), path)
    return path
