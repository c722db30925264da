from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
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


@pytest.fixture
def killed(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[type[L.LightningModule], int], AbstractContextManager[None]]:
    """A context in which a training is killed in the second step of an epoch."""

    @contextmanager
    def context(training: type[L.LightningModule], epoch: int) -> Iterator[None]:
        step = training.training_step

        def last(self: L.LightningModule, batch: object, batch_idx: int) -> torch.Tensor:
            if self.current_epoch == epoch and batch_idx == 1:
                raise RuntimeError("killed")
            found: torch.Tensor = step(self, batch, batch_idx)
            return found

        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
            patch.setattr(training, "training_step", last)
            yield

    return context
