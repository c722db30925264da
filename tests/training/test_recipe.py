from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from mofgap.choices import ADAPTATIONS, Adaptation
from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.store import build_store
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap import correction
from mofgap.gap.folder import About
from mofgap.gap.model import GapModelConfig
from mofgap.gap.posterior import Posterior
from mofgap.gap.predictor import load_model
from mofgap.training import recipe
from mofgap.training.card import write_card
from mofgap.training.compute import Compute
from mofgap.training.config import FinetuneConfig
from mofgap.training.finetune import Labelled
from mofgap.training.labels import read_labels
from mofgap.training.loop import TrainingError
from mofgap.training.recipe import _without_val, train
from mofgap.training.result import Cost, TrainingResult

CONFIG = FinetuneConfig(epochs=2, batch_atoms=40, learning_rate=1e-2)


def run(
    table: Path,
    folder: Path,
    encoder: Path,
    settings: CrystalTransformerConfig,
    method: Adaptation,
    resume: bool,
    correction_size: int = 0,
) -> TrainingResult:
    config = GapModelConfig(
        method=method,
        encoder_settings=asdict(settings),
        head_hidden=16,
        rank=2,
        correction_size=correction_size,
    )
    labels = read_labels(table, None, "gap_ev")
    about = About("tiny", level_of_theory="made up")
    return train(
        labels, folder, config, CONFIG, encoder, about, resume=resume, compute=Compute("cpu", progress=False)
    )


@pytest.fixture
def small_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight structures are enough for a neighbour correction."""
    monkeypatch.setattr(recipe, "MIN_CORRECTION_ROWS", 8)
    monkeypatch.setattr(correction, "N_NEIGHBOURS", 5)


@pytest.mark.parametrize("method", ADAPTATIONS)
def test_a_table_becomes_a_model_that_loads(
    tmp_path: Path,
    method: Adaptation,
    tiny_frame: pd.DataFrame,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
) -> None:
    table, folder = tmp_path / "table.parquet", tmp_path / "model"
    tiny_frame.to_parquet(table)
    outcome = run(table, folder, encoder_file, tiny_encoder, method, resume=False)
    predictor = load_model(folder, device="cpu")
    assert predictor.about == About("tiny", level_of_theory="made up")
    assert predictor.calibration.is_raw  # five validation rows calibrate nothing
    for split in ("val", "test"):
        rows = tiny_frame[tiny_frame.split == split]
        gap_ev = predictor.estimate(list(table_crystals(rows))).gap_ev
        mae = np.abs(gap_ev - rows.gap_ev.to_numpy()).mean()
        assert outcome.metrics[split]["mae_ev"] == pytest.approx(mae, abs=1e-5)
        assert outcome.metrics[split]["n"] == len(rows)
    train_ids = set(tiny_frame.structure_id[tiny_frame.split == "train"])
    assert set(predictor.novelty.ids) == train_ids
    report = json.loads((folder / "metrics.json").read_text())
    assert report["n_train"] == len(train_ids)
    assert report["training"] == asdict(CONFIG)
    assert report["metrics"]["test"]["mae_ev"] == outcome.metrics["test"]["mae_ev"]
    assert report["n_trainable"] == outcome.n_trainable > 0
    assert report["versions"]["torch"] == torch.__version__ and set(report["versions"]) > {"mofgap", "python"}


def test_neighbours_have_names_and_gaps(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    table, folder = tmp_path / "table.parquet", tmp_path / "model"
    frame = tiny_frame.assign(
        name=[f"ABCD{chr(65 + i)}F_FSR" for i in range(26)] + [None, "MIL-53", "UiO-66", "X"]
    )
    frame.to_parquet(table)
    run(table, folder, encoder_file, tiny_encoder, "lora", resume=False)
    novelty = load_model(folder, device="cpu").novelty
    for row in frame[frame.split == "train"].itertuples():
        name = f"{row.name.removesuffix('_FSR')}, " if isinstance(row.name, str) else ""
        assert novelty.known_as(row.structure_id) == f"{row.structure_id} ({name}{row.gap_ev:.2f} eV)"


def test_error_bars_are_calibrated_on_val_alone(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    # The same structures in each split: one training fits them all, 30 rows calibrate.
    splits = [
        tiny_frame.assign(split=split, structure_id=f"{split}-" + tiny_frame.structure_id)
        for split in ("train", "val", "test")
    ]
    frame = pd.concat(splits, ignore_index=True)
    ends = {}
    for shifted in ("none", "val", "test"):
        labels = frame.gap_ev + 2.0 * (frame.split == shifted)
        frame.assign(gap_ev=labels).to_parquet(tmp_path / f"{shifted}.parquet")
        folder = tmp_path / shifted
        run(tmp_path / f"{shifted}.parquet", folder, encoder_file, tiny_encoder, "lora", resume=False)
        calibration = load_model(folder, device="cpu").calibration
        assert not calibration.is_raw
        ends[shifted] = np.concatenate(calibration.interval([4.0], [0.3], 0.8))
    np.testing.assert_array_equal(ends["test"], ends["none"])
    assert np.diff(ends["val"]) > 2 * np.diff(ends["none"])


def test_scored_spreads_are_as_wide_as_those_of_predictions(
    model_folder: Path, tiny_frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of structures with an unseen element, say."""
    tiny_frame.to_parquet(tmp_path / "table.parquet")
    labels, tiny = read_labels(tmp_path / "table.parquet", None, "gap_ev"), load_model(model_folder, "cpu")
    data = Labelled.of(labels, build_store(table_crystals(labels.frame), tiny.model.graph_config))
    plain = recipe.measure(tiny.model, labels, data, tiny.novelty)[1]
    monkeypatch.setattr(recipe, "widening", lambda far, substitutes: np.full(len(far.percentile), 2.0))
    wide = recipe.measure(tiny.model, labels, data, tiny.novelty)[1]
    assert wide["test"]["width_90_ev"] > 1.2 * plain["test"]["width_90_ev"]
    assert wide["test"]["mae_ev"] == plain["test"]["mae_ev"]


def test_what_one_structure_leaves_undefined_is_null(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    table, folder = tmp_path / "table.parquet", tmp_path / "model"
    tests = tiny_frame.index[tiny_frame.split == "test"]
    tiny_frame.drop(tests[1:]).to_parquet(table)
    run(table, folder, encoder_file, tiny_encoder, "lora", resume=False)
    text = (folder / "metrics.json").read_text()
    scores = json.loads(text)["metrics"]["test"]
    assert "NaN" not in text and scores["n"] == 1
    assert scores["spearman"] is None and scores["mae_ev"] > 0


def test_a_trained_model_is_resumed_or_left_alone(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    table, folder = tmp_path / "table.parquet", tmp_path / "model"
    tiny_frame.to_parquet(table)
    run(table, folder, encoder_file, tiny_encoder, "balora", resume=False)
    before = load_file(folder / "model.safetensors") | load_file(folder / "adapter/adapter_model.safetensors")
    report = json.loads((folder / "metrics.json").read_text())
    with pytest.raises(TrainingError, match="holds a model already"):
        run(table, folder, encoder_file, tiny_encoder, "balora", resume=False)
    run(table, folder, encoder_file, tiny_encoder, "balora", resume=True)
    after = load_file(folder / "model.safetensors") | load_file(folder / "adapter/adapter_model.safetensors")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert json.loads((folder / "metrics.json").read_text())["metrics"] == report["metrics"]
    shutil.rmtree(folder / "training")
    with pytest.raises(TrainingError, match="model whose training is gone"):
        run(table, folder, encoder_file, tiny_encoder, "balora", resume=True)


@pytest.mark.parametrize("other", ["labels", "structures", "splits", "settings", "start"])
def test_a_training_is_not_taken_up_as_another(
    tmp_path: Path,
    tiny_frame: pd.DataFrame,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
    other: str,
) -> None:
    table, folder, start = tmp_path / "table.parquet", tmp_path / "model", encoder_file
    tiny_frame.to_parquet(table)
    run(table, folder, encoder_file, tiny_encoder, "lora", resume=False)
    kept = folder / "training/last.ckpt"
    before = kept.read_bytes()
    changed = {
        "labels": tiny_frame.assign(gap_ev=tiny_frame.gap_ev[::-1].to_numpy()),
        "structures": tiny_frame.assign(frac_coords=[v + 0.1 for v in tiny_frame.frac_coords]),
        "splits": tiny_frame.assign(split=tiny_frame.split.replace("test", "train")),
    }
    changed.get(other, tiny_frame).to_parquet(table)
    if other == "start":
        start = tmp_path / "other.safetensors"
        save_file({name: w + 1 for name, w in load_file(encoder_file).items()}, start)
    method: Adaptation = "balora" if other == "settings" else "lora"
    with pytest.raises(TrainingError, match=f"model/training .*{other}"):
        run(table, folder, start, tiny_encoder, method, resume=True)
    with pytest.raises(TrainingError, match="holds a model already"):
        run(table, folder, start, tiny_encoder, method, resume=False)
    with pytest.raises(TrainingError, match=other):  # which that start did not make its own
        run(table, folder, start, tiny_encoder, method, resume=True)
    assert kept.read_bytes() == before


def test_a_training_that_kept_no_key_is_taken_up(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    table, folder = tmp_path / "table.parquet", tmp_path / "model"
    tiny_frame.to_parquet(table)
    before = run(table, folder, encoder_file, tiny_encoder, "lora", resume=False)
    (folder / "training/key.json").unlink()
    assert run(table, folder, encoder_file, tiny_encoder, "lora", resume=True).metrics == before.metrics


@pytest.mark.usefixtures("small_correction")
def test_a_neighbour_correction_is_fitted_where_there_are_enough_structures(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    table, folder = tmp_path / "table.parquet", tmp_path / "model"
    tiny_frame.to_parquet(table)
    run(table, folder, encoder_file, tiny_encoder, "balora", resume=False, correction_size=99)
    model = load_model(folder, device="cpu").model
    train = tiny_frame[tiny_frame.split == "train"]
    assert model.correction is not None
    residual_ev = model.correction.residual_ev.numpy()
    assert len(residual_ev) == len(train)
    predictor = load_model(folder, device="cpu")
    predictor.model.drop_correction()
    gap_ev = predictor.estimate(list(table_crystals(train)), samples=0).gap_ev
    np.testing.assert_allclose(residual_ev, train.gap_ev.to_numpy() - gap_ev, atol=1e-4)


@pytest.mark.usefixtures("small_correction")
def test_no_epochs_keep_the_weights_and_fit_the_correction_anew(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    table = tmp_path / "table.parquet"
    tiny_frame.to_parquet(table)
    before = run(table, tmp_path / "old", encoder_file, tiny_encoder, "balora", resume=False)
    labels, none = read_labels(table, None, "gap_ev"), replace(CONFIG, epochs=0)
    after = train(labels, tmp_path / "new", None, none, tmp_path / "old", About("tiny"))
    old, new = (load_model(tmp_path / name, device="cpu") for name in ("old", "new"))
    crystals = list(table_crystals(tiny_frame))
    assert new.novelty.ids == old.novelty.ids
    assert new.model.correction is not None
    assert new.model.correction.spacing > 0
    for predictor in (old, new):
        predictor.model.drop_correction()
    predicted = [model.estimate(crystals, samples=0).gap_ev for model in (new, old)]
    np.testing.assert_array_equal(*predicted)
    assert after.metrics["test"]["n"] == before.metrics["test"]["n"]
    assert (after.n_trainable, after.cost, after.parent) == (0, Cost(), "tiny")
    (tmp_path / "old/card.md").write_text("# tiny\n\nEpochs: two.\n")
    write_card(tmp_path / "new", labels, after, none, "mofgap train", tmp_path / "old")
    card = (tmp_path / "new" / "card.md").read_text()
    assert "The weights are those of tiny" in card
    assert "distance from the nearest training structure" in card
    assert "epochs 0" not in card and "trained parameters" not in card
    assert card.endswith("those before.\n\n# tiny\n\nEpochs: two.\n")


def test_no_epochs_need_a_model_to_start_from(
    tmp_path: Path, tiny_frame: pd.DataFrame, tiny_encoder: CrystalTransformerConfig, encoder_file: Path
) -> None:
    table = tmp_path / "table.parquet"
    tiny_frame.to_parquet(table)
    network = GapModelConfig(encoder_settings=asdict(tiny_encoder), head_hidden=16, rank=2)
    labels, none = read_labels(table, None, "gap_ev"), replace(CONFIG, epochs=0)
    with pytest.raises(TrainingError, match="0 epochs"):
        train(labels, tmp_path / "new", network, none, encoder_file, About("tiny"))


def test_novel_structures_get_intervals_of_their_own_where_there_are_enough() -> None:
    rng = np.random.default_rng(0)
    n = 2400
    novelty = rng.random(n)
    true = rng.uniform(1, 4, n)
    gap = true + np.where(novelty > 0.8, 0.6, 0.2) * rng.standard_normal(n)
    found = Posterior(gap, np.full(n, 0.1), np.full(n, 0.2), np.empty((n, 0)))
    ids = [str(i) for i in range(n)]
    split = recipe.calibration_of(found, true, ids, novelty=novelty)
    assert split.novelty_edges == pytest.approx((0.2, 0.4, 0.6, 0.8), abs=0.04)
    lo, hi = split.interval([2.0, 2.0], [0.3, 0.3], 0.9, [0.1, 0.95])
    assert (hi - lo)[1] > 1.5 * (hi - lo)[0]
    few = Posterior(gap[:799], np.full(799, 0.1), np.full(799, 0.2), np.empty((799, 0)))
    single = recipe.calibration_of(few, true[:799], ids[:799], novelty=novelty[:799])
    assert single.novelty_edges == () and split.equal_tails and single.equal_tails


def test_of_the_processes_of_srun_the_first_alone_trains_without_val(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compute = Compute("cpu", devices=2, progress=False)
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit) as end:
        _without_val(compute, (), None)
    assert not end.value.code
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert _without_val(compute, (), None).devices == 1


def test_patience_needs_validation_rows() -> None:
    with pytest.raises(TrainingError, match="nothing stops a training early: leave out --patience"):
        _without_val(Compute("cpu"), (), patience=3)
