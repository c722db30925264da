"""A tiny table for pretraining and training, and what takes an encoder from its folder to a screening."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory, make_labelled_row: Callable[..., dict[str, Any]]) -> Path:
    path = tmp_path_factory.mktemp("table") / "tiny.parquet"
    pd.DataFrame([make_labelled_row(i, ("train", "train", "val", "test")) for i in range(28)]).to_parquet(
        path
    )
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
