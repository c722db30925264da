from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif
from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig

SPLITS = ("train", "train", "train", "val", "train", "test")

TINY_ENCODER = CrystalTransformerConfig(
    n_blocks=1, width=16, n_heads=4, n_radial=8, edge_width=8, ffn_width=16, n_neighbours=6
)

METALS = (20, 22, 26, 30, 40, 46, 48, 50, 56, 12)
OTHERS = (3, 4, 5, 8, 7, 9, 11, 13, 14, 15, 16, 17, 19, 21, 23, 24, 25, 27, 28, 29)


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


def spaced(seed: int) -> NDArray[np.float64]:
    """Four atoms that keep their distance."""
    jitter = np.random.default_rng(seed).uniform(0, 0.2, (4, 3))
    return np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]) + jitter


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def make(n: int = 30, names: list[str] | None = None, **columns: list[object]) -> tuple[Path, Path]:
        """A CSV of labels and a folder of the CIFs they belong to."""
        names = names or [f"mof-{i:03d}" for i in range(n)]
        cifs = tmp_path / "cifs"
        cifs.mkdir(exist_ok=True)
        for i, name in enumerate(names):
            coords = spaced(i)
            numbers = np.array([METALS[i % 10], OTHERS[(i // 10 + 3) % 20], 6, 1])  # no formula twice
            crystal = Crystal(np.eye(3) * 8, coords, numbers, "same-block-in-all")
            (cifs / f"{name}.cif").write_text(write_cif(crystal))
        labels = tmp_path / "labels.csv"
        pd.DataFrame({"name": names, "gap_ev": np.linspace(0.5, 3, len(names))} | columns).to_csv(
            labels, index=False
        )
        return labels, cifs

    return make
