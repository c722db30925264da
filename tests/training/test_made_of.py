"""What folders say of encoders and gap models before torch is imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mofgap.configuration import ConfigurationError
from mofgap.shipped import shipped_folder
from mofgap.training.config import TrainingConfig
from mofgap.training.job import ModelTraining
from mofgap.training.made_of import check_adapted, kept, model_settings


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (TrainingConfig(blocks=(2, 7)), "^blocks: .*blocks 0 to 4, not 7"),
        (TrainingConfig(modules=("query", "kee")), "^modules: .*query, key, .*not kee"),
    ],
)
def test_a_block_or_layer_that_the_encoder_lacks_is_refused(asked: TrainingConfig, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        check_adapted(asked, shipped_folder("models") / "crystal-transformer")


@pytest.mark.parametrize("architecture", ["nosuch", None, 3])
def test_nothing_is_checked_where_a_description_is_damaged(tmp_path: Path, architecture: object) -> None:
    described = {"encoder": {"n_blocks": 5}, "architecture": architecture}
    (tmp_path / "encoder.json").write_text(json.dumps(described))
    check_adapted(TrainingConfig(modules=("query",)), tmp_path)


def test_what_the_model_to_start_from_keeps_is_said(tmp_path: Path) -> None:
    made_of = {"method": "balora", "rank": 4, "head_hidden": 256, "prior_rate": 0.1}
    made_of["target_modules"] = [r"blocks\.(0|1)\.(conv\.lin1|lin)"]
    (tmp_path / "config.json").write_text(json.dumps({"model": made_of}))
    training = ModelTraining(from_model=str(tmp_path))  # type: ignore[call-arg]
    words = "blocks [0, 1], not [2, 3, 4]; rank 4, not 64 (as set or by default)"
    assert training.notes == [f"{tmp_path} keeps its own network: {words}"]
    assert kept(model_settings(tmp_path), TrainingConfig(rank=4, blocks=(0, 1))) == []
    assert kept({"method": "full", "rank": 8}, TrainingConfig()) == ["method full, not balora"]
    (tmp_path / "config.json").write_text("[")
    assert training.notes == []
