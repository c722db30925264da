"""A tiny table for pretraining and training, and what takes an encoder from its folder to a screening."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.training.atoms import ATOM_TARGETS


def row(index: int) -> dict[str, object]:
    """A small crystal whose gap and atomic targets follow from its elements."""
    rng = np.random.default_rng(index)
    n = int(rng.integers(3, 8))
    grid = np.stack(np.unravel_index(rng.permutation(27)[:n], (3, 3, 3)), axis=1)
    numbers = rng.choice([1, 6, 8, 30], n)
    return {
        "structure_id": f"tiny-{index:02d}",
        "cell_angstrom": (np.eye(3) * 6 + rng.normal(0, 0.2, (3, 3))).ravel(),
        "atomic_numbers": numbers,
        "frac_coords": ((grid + rng.uniform(0, 0.4, (n, 3))) / 3).ravel(),
        "gap_ev": 4 * float((numbers == 8).mean()) + 0.1 * float(rng.random()),
        "split": ("train", "train", "val", "test")[index % 4],
        **{name: np.sqrt(numbers) / 5 + 0.01 * rng.normal(size=n) for name in ATOM_TARGETS},
    }


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "tiny.parquet"
    pd.DataFrame([row(i) for i in range(28)]).to_parquet(path)
    return path


def run(*arguments: object) -> str:
    """What the program prints; it must end well."""
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def trained_and_screened(
    table: Path, tmp_path: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> Callable[[Path, int], tuple[Path, pd.DataFrame]]:
    def go(encoder: Path, first_block: int) -> tuple[Path, pd.DataFrame]:
        """The model folder trained on an encoder, and the table of two CIFs screened with it."""
        model, screened = tmp_path / "model", tmp_path / "screened.csv"
        settings = ["--rank", 2, "--head-hidden", 16, "--epochs", 2, "--learning-rate", 0.02]
        start = ["--encoder", encoder, "--blocks", first_block, "--device", "cpu"]
        run("train", table, "-o", model, *start, *settings)
        run("screen", *write_cifs(tmp_path / "cifs", 2), "--model", model, "-o", screened)
        return model, pd.read_csv(screened)

    return go
