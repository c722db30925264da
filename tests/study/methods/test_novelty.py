"""Novelty stands beside every prediction, and is of the encoder that the run has now."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.study.config import ComparisonConfig
from mofgap.study.engine import comparison as stages
from mofgap.study.judge.calibrated import calibrate
from mofgap.training.encoder_folder import find_encoder, save_encoder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_another_encoder_gives_every_prediction_another_novelty(
    run: Path, tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    torch.manual_seed(6)
    size = find_encoder(tiny_config.encoder).config
    assert isinstance(size, CrystalTransformerConfig)
    (tmp_path / "other").mkdir()
    save_encoder(tmp_path / "other", CrystalTransformer(size).state_dict(), {"encoder": asdict(size)})
    other = replace(tiny_config, encoder=str(tmp_path / "other"))
    path = run / "calibrated/split.parquet"
    before = pd.read_parquet(path)
    stages.prepare(other, run)
    stages.encode(other, run)
    calibrate(other, run, "split")
    after = pd.read_parquet(path)
    assert not np.allclose(after.novelty_distance, before.novelty_distance)
    pd.testing.assert_series_equal(after.gap_ev, before.gap_ev)


def test_novelty_is_taken_below_the_first_adapted_block(run: Path, tiny_config: ComparisonConfig) -> None:
    lower = replace(tiny_config, recipe=replace(tiny_config.recipe, blocks=(0,)))
    path = run / "calibrated/split.parquet"
    before = pd.read_parquet(path)
    stages.encode(lower, run)
    calibrate(lower, run, "split")
    assert not np.allclose(pd.read_parquet(path).novelty_distance, before.novelty_distance)


def test_novelty_is_the_same_for_all_methods_of_a_structure(finished: Path) -> None:
    frame = pd.read_parquet(finished / "calibrated/split.parquet")
    assert frame.novelty.notna().all()
    assert (frame.groupby("id").novelty_distance.nunique() == 1).all()
