from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mofgap.crystals.dataset import TableError
from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.training.atoms import ATOM_TARGETS, XTB_TARGETS
from mofgap.training.card import write_encoder_card
from mofgap.training.compute import Compute
from mofgap.training.config import PretrainConfig
from mofgap.training.loop import TrainingError
from mofgap.training.pretrain import Pretraining, atom_targets, pretrain

CONFIG = PretrainConfig(epochs=4, batch_atoms=30, learning_rate=1e-2, seed=3)


def run(
    frame: pd.DataFrame,
    folder: Path,
    encoder: CrystalTransformerConfig,
    config: PretrainConfig = CONFIG,
    **given: bool,
) -> Path:
    compute = Compute("cpu", progress=False)
    network = "crystal-transformer", asdict(encoder)
    return pretrain(frame, folder, *network, config, compute=compute, **given)


def test_the_loss_falls_and_the_encoder_is_written(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig
) -> None:
    path = run(tiny_frame, tmp_path / "run", tiny_encoder)
    log = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert log.epoch.tolist() == [0, 1, 2, 3]
    assert log.val_loss.iloc[-1] < 0.8 * log.val_loss.iloc[0]
    assert log.train_loss.iloc[-1] < 0.8 * log.train_loss.iloc[0]
    assert {f"val_mae_{name}" for name in ATOM_TARGETS} < set(log.columns)
    CrystalTransformer(tiny_encoder).load_state_dict(load_file(path))
    described = json.loads((tmp_path / "run" / "encoder.json").read_text())
    assert CrystalTransformerConfig(**described["encoder"]) == tiny_encoder
    assert PretrainConfig(**described["pretraining"]) == CONFIG


def test_an_interrupted_pretraining_ends_in_the_same_weights(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, killed: Any
) -> None:
    whole = load_file(run(tiny_frame, tmp_path / "whole", tiny_encoder))
    with killed(Pretraining, 2):
        run(tiny_frame, tmp_path / "cut", tiny_encoder)
    assert not (tmp_path / "cut" / "encoder.safetensors").exists()
    torch.rand(7)  # a new process finds torch's own generator in another state
    resumed = load_file(run(tiny_frame, tmp_path / "cut", tiny_encoder, resume=True))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    logs = [
        pd.read_csv(tmp_path / folder / "metrics.csv").drop(columns=["seconds", "cpu_seconds"])
        for folder in ("whole", "cut")
    ]
    pd.testing.assert_frame_equal(*logs)


def test_a_pretraining_is_not_taken_up_as_another(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig
) -> None:
    written = run(tiny_frame, tmp_path, tiny_encoder).read_bytes()
    turned = tiny_frame.assign(pbe_cm5_charge_e=[-v for v in tiny_frame.pbe_cm5_charge_e])
    with pytest.raises(TrainingError, match="targets"):
        run(turned, tmp_path, tiny_encoder, resume=True)
    with pytest.raises(TrainingError, match="settings"):
        run(tiny_frame, tmp_path, replace(tiny_encoder, width=8), resume=True)
    assert run(tiny_frame, tmp_path, tiny_encoder, resume=True).read_bytes() == written


def test_a_folder_in_use_is_not_overwritten(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig
) -> None:
    (tmp_path / "last.ckpt").write_bytes(b"a run")
    with pytest.raises(TrainingError, match="holds a training already"):
        run(tiny_frame, tmp_path, tiny_encoder)
    assert (tmp_path / "last.ckpt").read_bytes() == b"a run"


def test_test_rows_are_never_seen(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig
) -> None:
    spoilt = tiny_frame.copy()
    hidden = spoilt.split == "test"
    for name in ATOM_TARGETS:
        spoilt.loc[hidden, name] = spoilt.loc[hidden, name].map(lambda values: values * np.nan)
    config = PretrainConfig(epochs=1, batch_atoms=30)
    first, second = (
        load_file(run(frame, tmp_path / name, tiny_encoder, config=config))
        for name, frame in (("first", tiny_frame), ("second", spoilt))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_table_of_xtb_alone_has_its_own_targets(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig
) -> None:
    charge = tiny_frame[next(iter(ATOM_TARGETS))]
    both = tiny_frame.assign(**dict.fromkeys(XTB_TARGETS, charge))
    assert atom_targets(both).shape[1] == len(ATOM_TARGETS)
    frame = both.drop(columns=list(ATOM_TARGETS))
    run(frame, tmp_path, tiny_encoder, config=PretrainConfig(epochs=1, batch_atoms=30))
    write_encoder_card(tmp_path, 3, "mofgap pretrain", "")
    card = (tmp_path / "card.md").read_text()
    assert all(words in card for words in XTB_TARGETS.values()) and "DDEC6" not in card
    with pytest.raises(TableError, match="xtb_bond_order"):
        atom_targets(frame.drop(columns="xtb_bond_order"))


def test_targets_that_do_not_fit_are_named(tiny_frame: pd.DataFrame) -> None:
    with pytest.raises(TableError, match="pbe_magmom_mu_b"):
        atom_targets(tiny_frame.drop(columns="pbe_magmom_mu_b"))
    short = tiny_frame.assign(pbe_cm5_charge_e=[v[1:] for v in tiny_frame.pbe_cm5_charge_e])
    with pytest.raises(TableError, match=r"pbe_cm5_charge_e .*tiny-00"):
        atom_targets(short)


@pytest.mark.parametrize("wrong", [None, np.nan, np.inf])
def test_a_missing_value_of_an_atom_is_named(tiny_frame: pd.DataFrame, wrong: float | None) -> None:
    columns = tiny_frame.pbe_cm5_charge_e.tolist()
    columns[7] = np.array([wrong, *columns[7][1:]])
    with pytest.raises(TableError, match=r"pbe_cm5_charge_e .*tiny-07"):
        atom_targets(tiny_frame.assign(pbe_cm5_charge_e=columns))
    columns[7] = None
    with pytest.raises(TableError, match=r"pbe_cm5_charge_e .*tiny-07"):
        atom_targets(tiny_frame.assign(pbe_cm5_charge_e=columns))


def test_a_target_that_never_varies_is_no_trouble(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig
) -> None:
    still = tiny_frame.assign(pbe_magmom_mu_b=[0 * v for v in tiny_frame.pbe_magmom_mu_b])
    run(still, tmp_path, tiny_encoder)
    assert np.isfinite(pd.read_csv(tmp_path / "metrics.csv")).all(axis=None)


def test_no_encoder_is_written_where_no_loss_was_finite(
    tmp_path: Path,
    tiny_frame: pd.DataFrame,
    tiny_encoder: CrystalTransformerConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = Pretraining._losses

    def spoilt(self: Pretraining, batch: object, seed: list[int]) -> dict[str, torch.Tensor]:
        found = losses(self, batch, seed)
        return found | {"loss": found["loss"] * torch.nan}

    monkeypatch.setattr(Pretraining, "_losses", spoilt)
    with pytest.raises(TrainingError, match="diverged"):
        run(tiny_frame, tmp_path, tiny_encoder)
    assert not (tmp_path / "encoder.json").exists()


def test_a_table_without_both_splits_is_refused(
    tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, tmp_path: Path
) -> None:
    for frame in (tiny_frame.drop(columns="split"), tiny_frame.assign(split="train")):
        with pytest.raises(TableError, match=r"split '(train|val)'"):
            run(frame, tmp_path, tiny_encoder)


def test_the_sign_of_a_moment_is_not_a_target(tiny_frame: pd.DataFrame) -> None:
    turned = tiny_frame.assign(
        pbe_magmom_mu_b=[-v for v in tiny_frame.pbe_magmom_mu_b],
        pbe_cm5_charge_e=[-v for v in tiny_frame.pbe_cm5_charge_e],
    )
    plain, other = atom_targets(tiny_frame), atom_targets(turned)
    names = list(ATOM_TARGETS)
    assert torch.equal(plain[:, names.index("pbe_magmom_mu_b")], other[:, names.index("pbe_magmom_mu_b")])
    assert torch.equal(plain[:, names.index("pbe_cm5_charge_e")], -other[:, names.index("pbe_cm5_charge_e")])


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [("frac_coords", np.nan, "bad-coordinates"), ("cell_angstrom", 0.0, "bad-cell")],
)
def test_what_is_no_structure_is_named_before_anything_is_trained(
    tmp_path: Path,
    tiny_frame: pd.DataFrame,
    tiny_encoder: CrystalTransformerConfig,
    column: str,
    value: float,
    reason: str,
) -> None:
    frame = tiny_frame.copy()
    frame[column] = [v * value if i == 2 else v for i, v in enumerate(frame[column])]
    with pytest.raises(TableError, match=f"{frame.structure_id[2]}: {reason}"):
        run(frame, tmp_path / "run", tiny_encoder)
    assert not (tmp_path / "run").exists()
