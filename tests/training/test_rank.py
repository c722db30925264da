from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.graph import CrystalGraph
from mofgap.crystals.store import build_store
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap.folder import About, read_model, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.training import rank
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.novelty import fit_novelty
from mofgap.uncertainty.scaling import Scaling


def adapted(encoder: CrystalTransformerConfig, frame: pd.DataFrame) -> tuple[GapModel, CrystalGraph]:
    """A model with adapters of rank 4 that change its gaps, and the structures of a table."""
    torch.manual_seed(0)
    model = GapModel(GapModelConfig(encoder_settings=asdict(encoder), head_hidden=12, rank=4)).eval()
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.3)
    store = build_store(table_crystals(frame), model.graph_config)
    batch = store.batch(range(len(store)))
    return model, batch


def test_a_model_of_lower_rank_has_the_same_gaps(
    tiny_encoder: CrystalTransformerConfig,
    tiny_frame: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, batch = adapted(tiny_encoder, tiny_frame)
    with torch.no_grad():
        before, features = model(batch)[0], model.frozen_features(batch).numpy()
    novelty = fit_novelty(features, tiny_frame.atomic_numbers.tolist(), tiny_frame.structure_id.tolist())
    fitted = Calibration(Scaling(2.0), (Residuals(tuple(np.linspace(-2, 2, 24).tolist())),))
    save_model(tmp_path / "four", model, About("four"), fitted, novelty)
    monkeypatch.setattr(sys, "argv", ["rank", str(tmp_path / "four"), "1", "-o", str(tmp_path / "one")])
    rank.main()
    cut, _, calibration, _ = read_model(tmp_path / "one")
    assert calibration.is_raw and calibration.scaling == fitted.scaling  # intervals were of another spread
    assert cut.config.rank == 1 and {layer.rank for layer in cut.layers.values()} == {1}
    with torch.no_grad():
        torch.testing.assert_close(cut(batch)[0], before, atol=1e-4, rtol=1e-4)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in said] == list(model.layers)
    assert all(25 < float(line.split(": ")[1].rstrip("%")) < 100 for line in said)


def test_a_model_with_adapters_in_fewer_blocks_has_the_same_gaps(
    tiny_encoder: CrystalTransformerConfig, tiny_frame: pd.DataFrame
) -> None:
    model, batch = adapted(tiny_encoder, tiny_frame)
    with torch.no_grad():
        before, features = model(batch)[0], model.frozen_features(batch)
        assert model.noise_network is not None
        model.noise_network.fit_scale(features)
        alpha = model.noise_factors(features)
    numbers, names = tiny_frame.atomic_numbers.tolist(), tiny_frame.structure_id.tolist()
    novelty = fit_novelty(features.numpy(), numbers, names)
    far = novelty.score(features.numpy(), numbers)
    last = tiny_encoder.n_blocks - 1
    is_kept = [f"blocks.{last}." in name for name in model.layers]
    cut, index = rank.with_fewer_blocks(model, [last], novelty)
    assert all(f"blocks.{last}." in name for name in cut.layers) and len(cut.layers) == sum(is_kept) > 0
    with torch.no_grad():
        torch.testing.assert_close(cut(batch)[0], before, atol=1e-5, rtol=1e-5)
        more = cut.frozen_features(batch)
        torch.testing.assert_close(cut.noise_factors(more), alpha[:, torch.tensor(is_kept)])
    np.testing.assert_allclose(index.score(more.numpy(), numbers).distance, far.distance, rtol=1e-5)


def test_no_model_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rank", "qmof-pbe", "2", "-o", str(tmp_path)])
    with pytest.raises(SystemExit):
        rank.main()
    monkeypatch.setattr("sys.argv", ["rank", "qmof-pbe", "99", "-o", str(tmp_path / "new")])
    with pytest.raises(SystemExit):
        rank.main()
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["rank", "qmof-pbee", "2", "-o", str(tmp_path / "new")])
    with pytest.raises(SystemExit):
        rank.main()
    assert "did you mean 'qmof-pbe'?" in capsys.readouterr().err


def test_a_model_without_adapters_is_refused(tiny_encoder: CrystalTransformerConfig) -> None:
    model = GapModel(GapModelConfig("full", encoder_settings=asdict(tiny_encoder)))
    with pytest.raises(ValueError, match="no adapters"):
        rank.with_lower_rank(model, 1)
