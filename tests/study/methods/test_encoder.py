"""A comparison runs on whatever encoder its configuration names."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import torch

from mofgap.encoders.schnet import SchNet, SchNetConfig
from mofgap.gap.folder import read_model
from mofgap.study.config import ComparisonConfig
from mofgap.study.engine import comparison as stages
from mofgap.study.layout import Layout
from mofgap.study.methods.training import train
from mofgap.training.encoder_folder import save_encoder


def test_a_comparison_trains_on_another_kind_of_encoder(
    tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    size = SchNetConfig(n_blocks=2, width=8, n_filters=8, n_gaussians=8, n_neighbours=6, cutoff_angstrom=5.0)
    (tmp_path / "schnet").mkdir()
    weights = SchNet(size).state_dict()
    save_encoder(tmp_path / "schnet", weights, {"architecture": "schnet", "encoder": asdict(size)})
    config, run = replace(tiny_config, encoder=str(tmp_path / "schnet")), tmp_path / "run"
    stages.prepare(config, run)
    stages.encode(config, run)
    train(config, run, "split/balora-seed0")
    model = read_model(Layout(run).member("split/balora-seed0"))[0]
    assert isinstance(model.encoder, SchNet) and model.encoder.config == size
    assert model.graph_config == size.graph
    assert [*model.layers] == [f"interactions.1.{name}" for name in SchNet.adaptable]
