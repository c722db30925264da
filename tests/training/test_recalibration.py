from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.crystals.dataset import TableError, table_crystals
from mofgap.crystals.store import build_store
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap.folder import About, read_model, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.posterior import predict_store
from mofgap.gap.predictor import load_model
from mofgap.training import recalibration
from mofgap.training.labels import read_labels
from mofgap.training.recalibration import recalibrate
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import Novelty, NoveltyIndex, fit_novelty


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: CrystalTransformerConfig, tiny_frame: pd.DataFrame
) -> Path:
    """A raw model that was trained on the first twelve structures of the table."""
    torch.manual_seed(0)
    model = GapModel(GapModelConfig(encoder_settings=asdict(tiny_encoder), head_hidden=16, rank=2)).eval()
    model.gap_mean_ev.fill_(2.0)
    store = build_store(table_crystals(tiny_frame[:12]), model.graph_config)
    features = predict_store(model, store, range(12)).features
    index = fit_novelty(
        features, tiny_frame.atomic_numbers[:12].tolist(), tiny_frame.structure_id[:12].tolist()
    )
    folder = tmp_path_factory.mktemp("model") / "source"
    save_model(folder, model, About("source", level_of_theory="PBE"), Calibration.raw(), index)
    (folder / "card.md").write_text("# source\n\nIts own words.\n")
    return folder


def write_labels(path: Path, frame: pd.DataFrame, model_folder: Path, n: int, shift: float = 0.0) -> Path:
    """A table of n structures beside those of training, labelled by the model's gaps with wide errors."""
    rows = pd.concat([frame] * (n // len(frame) + 2), ignore_index=True)
    rows["structure_id"] = [f"{name}-{i}" if i >= 12 else name for i, name in enumerate(rows.structure_id)]
    rows = rows[: n + 12]
    predictor = load_model(model_folder, "cpu")
    gap = predictor.estimate(list(table_crystals(rows))).gap_ev
    error = np.random.default_rng(1).normal(scale=2.0, size=len(rows))
    rows.drop(columns="split").assign(gap_ev=np.maximum(gap + error + shift, 0)).to_parquet(path)
    return path


@pytest.mark.parametrize(("n", "n_scaling"), [(40, 0), (220, 220)])
def test_the_new_intervals_cover_where_the_old_ones_did_not(
    n: int, n_scaling: int, source: Path, tiny_frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = write_labels(tmp_path / "mine.parquet", tiny_frame, source, n)
    predictor = load_model(source, "cpu")
    found = recalibrate(predictor, read_labels(path, None, "gap_ev", needed=()))
    assert (found.n_rows, found.n_known) == (n, 12)
    record = found.calibration.record
    assert record is not None and record.n_scaling == n_scaling
    assert found.before.fraction["90"] < 0.85 <= found.after.fraction["90"]
    assert found.after.width_ev["90"] > found.before.width_ev["90"]


def test_many_labels_part_by_novelty_through_the_folder(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_labels(tmp_path / "mine.parquet", tiny_frame, source, 420)
    monkeypatch.setattr("mofgap.training.calibration.MIN_GROUP_ROWS", 200)

    def scattered(self: NoveltyIndex, features: np.ndarray, atomic_numbers: list[np.ndarray]) -> Novelty:
        n = len(features)
        same = np.zeros(n, dtype=bool)
        return Novelty(np.random.default_rng(0).random(n), np.ones(n), ((),) * n, same, ({},) * n)

    monkeypatch.setattr(NoveltyIndex, "score", scattered)
    done = CliRunner().invoke(app, ["calibrate", str(source), str(path), "-o", str(tmp_path / "mine")])
    assert done.exit_code == 0, done.output
    calibration = read_model(tmp_path / "mine")[2]
    (edge,), record = calibration.novelty_edges, calibration.record
    assert 0.4 < edge < 0.6 and record is not None
    assert [len(group.values) for group in calibration.residuals] == [210, 210]
    assert record.coverage_90_by_group == pytest.approx((0.9, 0.9), abs=0.06)
    assert "in 2 groups of novelty" in (tmp_path / "mine" / "card.md").read_text()


def test_errors_are_those_of_gaps_that_end_at_zero(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path
) -> None:
    labels = read_labels(
        write_labels(tmp_path / "mine.parquet", tiny_frame, source, 40), None, "gap_ev", needed=()
    )
    predictor, rows = load_model(source, "cpu"), labels.frame[12:]
    predictor.model.gap_mean_ev.fill_(0.0)
    gap_ev = predictor.estimate(list(table_crystals(rows))).gap_ev
    assert gap_ev.min() == 0 < gap_ev.max()
    errors = np.abs(rows.gap_ev - gap_ev)
    assert recalibrate(predictor, labels).mae_ev == pytest.approx(errors.mean(), rel=1e-5)


def test_structures_whose_charges_do_not_add_up_are_left_out(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their error bars are wider by a rule of their own, which would count twice."""
    labels = read_labels(
        write_labels(tmp_path / "mine.parquet", tiny_frame, source, 40), None, "gap_ev", needed=()
    )
    for unbalanced, used in ((range(15), 25), (range(16), 40)):
        names = {labels.frame.structure_id[12 + i] for i in unbalanced}
        monkeypatch.setattr(
            "mofgap.training.recalibration.are_unbalanced",
            lambda f, n=names: f.structure_id.isin(n).to_numpy(),
        )
        found = recalibrate(load_model(source, "cpu"), labels)
        assert (found.n_rows, found.n_unbalanced, found.n_known) == (used, 40 - used, 12)


def test_gaps_that_the_model_predicts_are_no_labels(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = write_labels(tmp_path / "mine.parquet", tiny_frame, source, 40)
    frame = pd.read_parquet(path)
    gap_ev = load_model(source, "cpu").estimate(list(table_crystals(frame))).gap_ev
    frame.assign(gap_ev=gap_ev.round(4)).to_parquet(path)
    done = CliRunner().invoke(app, ["calibrate", str(source), str(path), "-o", str(tmp_path / "mine")])
    assert done.exit_code and "gap_ev holds the gaps that source predicts" in done.output
    assert not (tmp_path / "mine").exists()


def test_too_few_labels_are_refused(source: Path, tiny_frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write_labels(tmp_path / "mine.parquet", tiny_frame, source, 24)
    with pytest.raises(
        TableError, match=r"25 labelled structures .* not 24; it knows 12 by name or geometry"
    ):
        recalibrate(load_model(source, "cpu"), read_labels(path, None, "gap_ev", needed=()))


def test_structures_of_training_are_known_by_other_names_too(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_labels(tmp_path / "mine.parquet", tiny_frame, source, 40)
    score = NoveltyIndex.score

    def scored(self: NoveltyIndex, features: np.ndarray, atomic_numbers: list[np.ndarray]) -> Novelty:
        return replace(score(self, features, atomic_numbers), in_training=np.arange(len(features)) < 7)

    monkeypatch.setattr(NoveltyIndex, "score", scored)
    found = recalibrate(load_model(source, "cpu"), read_labels(path, None, "gap_ev", needed=()))
    assert (found.n_rows, found.n_known) == (33, 12 + 7)


def test_a_structure_of_training_without_a_gap_of_the_level_is_used(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = write_labels(tmp_path / "mine.parquet", tiny_frame, source, 40)
    predictor = load_model(source, "cpu")
    gaps = np.where(np.arange(12) < 5, np.nan, 2.0).astype(np.float32)
    some = replace(predictor, novelty=replace(predictor.novelty, gap_ev=gaps))
    labels = read_labels(path, None, "gap_ev", needed=())
    assert recalibrate(some, labels).n_rows == recalibrate(predictor, labels).n_rows + 5


def test_command_writes_another_model_and_leaves_the_first_alone(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = write_labels(tmp_path / "mine.parquet", tiny_frame, source, 40, shift=1.5)
    before = {p: p.read_bytes() for p in source.rglob("*") if p.is_file()}
    arguments = ["calibrate", str(source), str(path), "-o", str(tmp_path / "mine")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before
    shown = pd.read_csv(io.StringIO(done.stdout), sep="\t", index_col=0)
    assert shown.loc["90 %", "coverage before"] < shown.loc["90 %", "coverage now"]
    assert "left out 12 structures" in done.stderr
    other = "if the labels are of another level, name the model of that level"
    assert f"only cover this; {other}; else mofgap train --from corrects it" in done.stderr
    model, about, calibration, _ = read_model(tmp_path / "mine")
    assert about == About("mine", level_of_theory="PBE") and not calibration.is_raw
    assert about.trained_as == read_model(source)[1].name
    names = pd.read_parquet(path).structure_id
    digest = hashlib.sha256("\n".join(sorted(names[12:])).encode()).hexdigest()
    assert calibration.record is not None and calibration.record.ids_sha256 == digest
    for (name, old), new in zip(
        read_model(source)[0].state_dict().items(), model.state_dict().values(), strict=True
    ):
        assert old.equal(new), name
    assert "mean absolute error" in done.stderr and "on 40 structures; gaps stay as they are" in done.stderr
    described = json.loads((tmp_path / "mine" / "config.json").read_text())
    old_hash = json.loads((source / "config.json").read_text())["sha256"]
    changed = {name for name, digest in described["sha256"].items() if old_hash[name] != digest}
    assert changed == {"calibration.json"}
    card = (tmp_path / "mine" / "card.md").read_text()
    assert "calibrated anew on 40 structures" in card and "Its own words." in card and "| 90 % |" in card
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "exists" in again.output


def test_intervals_are_those_that_a_prediction_widens(
    source: Path, tiny_frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of structures with an unseen element, say: then what is served covers them as what is fitted does."""
    labels = read_labels(
        write_labels(tmp_path / "mine.parquet", tiny_frame, source, 40), None, "gap_ev", needed=()
    )
    predictor = load_model(source, "cpu")
    predictor = replace(predictor, calibration=replace(predictor.calibration, experimental_std_ev=0.25))
    plain = recalibrate(predictor, labels)
    monkeypatch.setattr(recalibration, "widening", lambda far, substitutes: np.full(len(far.percentile), 2.0))
    wide = recalibrate(predictor, labels)
    assert plain.calibration.experimental_std_ev == 0.25, "it stays as it was"
    residuals = [np.array(found.calibration.residuals[0].values) for found in (plain, wide)]
    np.testing.assert_allclose(2 * residuals[1], residuals[0], rtol=1e-3)
    assert wide.after.width_ev["90"] == pytest.approx(plain.after.width_ev["90"], rel=1e-3)
    assert wide.before.width_ev["90"] > plain.before.width_ev["90"]
