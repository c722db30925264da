"""SchNet of torch-geometric from pretraining to a screening."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.encoders.registry import build_encoder
from mofgap.encoders.schnet import SchNet, SchNetConfig
from mofgap.gap.folder import read_model
from mofgap.gap.posterior import posterior

SIZE = ["--blocks", "2", "--width", "16", "--setting", "n_filters=12", "--setting", "cutoff_angstrom=5"]


def pretrain(table: Path, output: Path, *others: str) -> str:
    arguments = ["pretrain", str(table), "-o", str(output), "--architecture", "schnet", *SIZE, *others]
    result = CliRunner().invoke(app, [*arguments, "--epochs", "1", "--device", "cpu"])
    assert result.exit_code == (2 if others else 0), result.output
    return result.output


def test_it_goes_through_pretrain_train_and_screen(
    table: Path,
    tmp_path: Path,
    trained_and_screened: Callable[[Path, int], tuple[Path, pd.DataFrame]],
) -> None:
    said = pretrain(table, tmp_path / "encoder")
    assert f"mofgap train LABELS CIFS --encoder {tmp_path / 'encoder'} --blocks 0,1\n" in said
    described = json.loads((tmp_path / "encoder/encoder.json").read_text())
    assert described["architecture"] == "schnet" and described["encoder"]["n_filters"] == 12
    assert "schnet" in (tmp_path / "encoder/card.md").read_text()
    folder, screened = trained_and_screened(tmp_path / "encoder", 1)
    model = read_model(folder)[0]
    assert isinstance(model.encoder, SchNet) and model.encoder.n_frozen == 2
    assert [*model.layers] == [f"interactions.1.{name}" for name in ("conv.lin1", "conv.lin2", "lin")]
    assert model.graph_config.cutoff_angstrom == 5.0
    assert len(screened) == 2
    assert np.isfinite(screened.gap_ev).all() and (screened.epistemic_std_ev > 0).all()
    crystal = Crystal(np.eye(3) * 5, np.array([[0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]]), np.array([30, 8, 8]))
    graph = crystal_graph(crystal, model.graph_config)
    for how in ({"uncertainty": "closed-form"}, {"uncertainty": "rows", "samples": 4}):
        found = posterior(model, graph, **how)  # type: ignore[arg-type]
        assert np.isfinite(found.gap_ev).all() and found.epistemic_std_ev[0] > 0


@pytest.mark.parametrize(
    ("setting", "named"),
    [("n_filter=12", "n_filters"), ("n_gaussians=1", "at least 2"), ("n_filters=x", "int"), ("x", "KEY")],
)
def test_a_setting_that_it_does_not_have_is_refused(
    table: Path, tmp_path: Path, setting: str, named: str
) -> None:
    assert named in pretrain(table, tmp_path / "encoder", "--setting", setting)
    assert not (tmp_path / "encoder").exists()


def test_the_envelope_stands_where_torch_geometric_has_its_cosine() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("schnet", {"n_blocks": 1, "width": 8, "n_filters": 6})
    assert isinstance(encoder, SchNet)
    pair = Crystal(np.eye(3) * 20, np.array([[0, 0, 0], [0.1, 0, 0]]), np.array([30, 8]))
    graph = crystal_graph(pair, encoder.graph_config)
    x, (edge_index, radial, envelope) = encoder.embed(graph)
    # The distance at which its cosine, on a cutoff of 6 angstrom, is as large as the envelope.
    distance = torch.arccos(2 * envelope[:, 0] - 1) * 6.0 / torch.pi
    expected = x + encoder.interactions[0](x, edge_index, distance, radial)
    torch.testing.assert_close(encoder(graph)[:, 1], expected, atol=1e-5, rtol=1e-5)
    assert SchNetConfig() == encoder.Config()
