from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mofgap.crystals.convert import crystal_from, to_ase
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import TableError, table_crystals
from mofgap.crystals.graph import GraphConfig
from mofgap.crystals.store import build_store
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap.folder import About, ModelError, read_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.training.compute import Compute
from mofgap.training.config import FinetuneConfig
from mofgap.training.encoder_folder import PretrainedEncoder
from mofgap.training.joint import (
    MIN_DISTANCE,
    JointConfig,
    JointTraining,
    _without_repeats,
    main,
    train_joint,
    with_noise,
)
from mofgap.training.joint_network import JointNetwork
from mofgap.training.labels import read_labels
from mofgap.training.loop import TrainingError
from mofgap.training.recipe import train

LEVELS = {"gap_ev": "PBE", "high_ev": "HSE06"}
CONFIG = JointConfig(3, 40, learning_rate=5e-3, head_hidden=12, distance_noise=0.01, tolerance=1e-3)
CPU = Compute("cpu", progress=False)


@pytest.fixture(scope="module")
def frame(tiny_frame: pd.DataFrame) -> pd.DataFrame:
    """The second level is known for every second structure."""
    high = tiny_frame.gap_ev * 0.8 + 2.0
    return tiny_frame.assign(high_ev=high.where(np.arange(len(high)) % 2 == 0))


@pytest.fixture(scope="module")
def found(encoder_file: Path, tiny_encoder: CrystalTransformerConfig) -> PretrainedEncoder:
    return PretrainedEncoder(encoder_file, "crystal-transformer", tiny_encoder)


def run(frame: pd.DataFrame, folder: Path, found: PretrainedEncoder, **how: Any) -> list[Path]:
    return train_joint(frame, folder, found, CONFIG, levels=LEVELS, compute=CPU, **how)


def test_every_column_becomes_a_model_on_one_encoder(
    frame: pd.DataFrame, tmp_path: Path, found: PretrainedEncoder
) -> None:
    folders = run(frame, tmp_path / "joint", found)
    log = pd.read_csv(tmp_path / "joint" / "metrics.csv")
    assert log.val_loss.iloc[-1] < log.val_loss.iloc[0]
    models = [read_model(folder) for folder in folders]
    assert [about.level_of_theory for _, about, _, _ in models] == ["PBE", "HSE06"]
    (pbe, *_), (hse, *_) = models
    before, states = load_file(found.weights), [m.encoder.state_dict() for m in (pbe, hse)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], before[name]) for name in before)
    assert not torch.equal(pbe.head.out.weight, hse.head.out.weight)
    known = frame[(frame.split == "train") & frame.high_ev.notna()]
    assert float(hse.gap_mean_ev) == pytest.approx(known.high_ev.mean(), rel=1e-5)


def test_matrices_decay_and_biases_do_not() -> None:
    network = torch.nn.Linear(3, 2)
    module = JointTraining(network, torch.zeros(1, 1), torch.zeros(1, 1), CONFIG, 10)  # type: ignore[arg-type]
    matrices, others = module.configure_optimizers()["optimizer"].param_groups
    assert [p.ndim for p in matrices["params"]] == [2] and matrices["weight_decay"] == CONFIG.weight_decay > 0
    assert [p.ndim for p in others["params"]] == [1] and others["weight_decay"] == 0


def test_gaps_that_cannot_be_learnt_are_refused(
    frame: pd.DataFrame, tmp_path: Path, found: PretrainedEncoder
) -> None:
    one = frame.high_ev.where(frame.index == frame.index[(frame.split == "train") & frame.high_ev.notna()][0])
    for wrong, words in (
        (frame.drop(columns="high_ev"), "no column 'high_ev'"),
        (frame.assign(high_ev=np.nan), "high_ev: 0 gaps in split train"),
        (frame.assign(high_ev=one), "high_ev: 1 gap in split train"),
        (frame.assign(gap_ev=frame.gap_ev.where(frame.split != "val")), "gap_ev: no gap in split val"),
        (frame.assign(gap_ev=1000 * frame.gap_ev), "gap_ev is not in eV: .* are they in meV"),
        (frame.drop(columns="split"), "add a column split"),
    ):
        with pytest.raises(TableError, match=words):
            run(wrong, tmp_path / "joint", found)
    assert not (tmp_path / "joint").exists()


def test_a_training_goes_on_from_an_earlier_one(
    frame: pd.DataFrame, tmp_path: Path, found: PretrainedEncoder
) -> None:
    first = run(frame, tmp_path / "first", found)
    how: dict[str, Any] = {"levels": LEVELS, "compute": CPU, "start": [tmp_path / "first"]}
    still = replace(CONFIG, epochs=1, learning_rate=0.0)
    for before, after in zip(first, train_joint(frame, tmp_path / "still", found, still, **how), strict=True):
        weights = [load_file(folder / "model.safetensors") for folder in (before, after)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    other = run(frame, tmp_path / "second", found, start=[tmp_path / "first"])
    both = how | {"start": [tmp_path / "first", tmp_path / "second"]}
    mean = train_joint(frame, tmp_path / "mean", found, still, **both)
    for folders in zip(first, other, mean, strict=True):
        one, two, half = (load_file(folder / "model.safetensors")["head.out.weight"] for folder in folders)
        assert not torch.equal(one, two)
        torch.testing.assert_close(half, (one + two) / 2)
    with pytest.raises(TrainingError, match="with other earlier trainings"):
        run(frame, tmp_path / "second", found, resume=True)
    with pytest.raises(ModelError, match="other settings"):
        train_joint(frame, tmp_path / "other", found, replace(CONFIG, head_hidden=8), **how)


def test_equal_atoms_get_the_mean_of_their_targets() -> None:
    salt = Crystal(np.eye(3) * 6, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([11, 17]))
    doubled = crystal_from(to_ase(salt).repeat((2, 1, 1)), "doubled")
    store = build_store([doubled], GraphConfig(8, 6.0))
    targets = torch.tensor([[1.0], [5.0], [2.0], [9.0]])
    assert _without_repeats(store, targets, 0.0) == (store, targets)
    distinct, found = _without_repeats(store, targets, 1e-3)
    by_element = dict(zip(distinct.atomic_number.tolist(), found[:, 0].tolist(), strict=True))
    assert by_element == {11: 1.5, 17: 7.0}


def test_noise_moves_the_distances_of_each_structure_by_its_own_amount(
    frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig
) -> None:
    graphs = GapModelConfig(encoder_settings=asdict(tiny_encoder))
    store = build_store(table_crystals(frame), GapModel(graphs).graph_config)
    batch = store.batch(range(len(store)))
    torch.manual_seed(0)
    moved = (with_noise(batch, 0.04).distance - batch.distance).abs()
    by_structure = torch.stack([moved[batch.structure_idx == i].mean() for i in range(batch.n_graphs)])
    assert by_structure.min() < 0.005 < 0.015 < by_structure.max() < 0.06
    assert with_noise(batch, 100.0).distance.min() == pytest.approx(MIN_DISTANCE)


def test_an_interrupted_training_ends_in_the_same_weights(
    frame: pd.DataFrame, tmp_path: Path, found: PretrainedEncoder, killed: Any
) -> None:
    whole = run(frame, tmp_path / "whole", found)
    with killed(JointTraining, 1):
        run(frame, tmp_path / "cut", found)
    with pytest.raises(TrainingError):
        run(frame, tmp_path / "cut", found)
    torch.rand(5)
    cut = run(frame, tmp_path / "cut", found, resume=True)
    for one, other in zip(whole, cut, strict=True):
        weights = [load_file(folder / "model.safetensors") for folder in (one, other)]
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_training_takes_the_mean_with_other_models(
    frame: pd.DataFrame, tmp_path: Path, found: PretrainedEncoder, tiny_encoder: CrystalTransformerConfig
) -> None:
    others = run(frame, tmp_path / "joint", found)
    made_of = GapModelConfig(encoder_settings=asdict(tiny_encoder), head_hidden=12, rank=2)
    config, start = FinetuneConfig(epochs=1, batch_atoms=60), found.weights

    def trained(
        rows: pd.DataFrame,
        name: str,
        level: str = "unknown",
        members: Sequence[Path] = others,
        resume: bool = False,
    ) -> GapModel:
        table = tmp_path / f"{name}.parquet"
        rows.to_parquet(table)
        labels = read_labels(table, None, "gap_ev", needed=("train",))
        train(
            labels,
            tmp_path / name,
            made_of,
            config,
            start,
            About(name, level_of_theory=level),
            members,
            resume=resume,
            compute=CPU,
        )
        return read_model(tmp_path / name)[0]

    model = trained(frame, "both")
    for member, other in zip(model.members, others, strict=True):
        expected = load_file(other / "model.safetensors")["head.out.weight"]
        torch.testing.assert_close(member.head.out.weight, expected, atol=1e-3, rtol=1e-3)
    trained(frame, "both", resume=True)
    for fewer in (others[:1], []):
        with pytest.raises(TrainingError, match="with other members"):
            trained(frame, "both", members=fewer, resume=True)
    with pytest.raises(TrainingError, match="val"):
        trained(frame[frame.split == "train"], "without")
    with pytest.raises(ModelError, match="predicts gaps of PBE, not of PBE0"):
        trained(frame, "other-level", "PBE0")
    for learnt_by_others in ("val", "test"):
        other_split = frame.split.map({"train": learnt_by_others, "val": "train", "test": "train"})
        with pytest.raises(ModelError, match="of val or test: train both models with one column split"):
            trained(frame.assign(split=other_split), f"other-{learnt_by_others}")


def test_the_error_of_an_epoch_counts_labels(
    frame: pd.DataFrame, tmp_path: Path, found: PretrainedEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Structures without the first gap are no exact ones."""

    def loss(self: JointNetwork, batch: Any, gap_ev: torch.Tensor, *_: Any) -> tuple[torch.Tensor, ...]:
        known = gap_ev[:, 0][~gap_ev[:, 0].isnan()]
        nothing = torch.stack([p.sum() * 0 for p in self.parameters()]).sum()
        return nothing, known.mean() if len(known) else nothing.detach()

    monkeypatch.setattr(JointNetwork, "loss", loss)
    val = np.flatnonzero(frame.split == "val")
    lacking = frame.assign(gap_ev=frame.gap_ev.where(~frame.index.isin(frame.index[val[::2]])))
    run(lacking, tmp_path / "joint", found)
    logged = pd.read_csv(tmp_path / "joint" / "metrics.csv").val_mae_ev.iloc[-1]
    assert logged == pytest.approx(lacking.gap_ev.iloc[val].mean(), rel=1e-5)


def test_a_wrong_setting_is_told_before_the_table_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["joint", "gone.parquet", "--epochs", "0"])
    with pytest.raises(SystemExit):
        main()
    assert "epochs: must be at least 1, got 0" in capsys.readouterr().err
