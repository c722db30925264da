"""Taking a gap model to another level of theory."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.store import GraphStore, build_store
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap import correction
from mofgap.gap.folder import About, read_model, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.posterior import Posterior, predict_store
from mofgap.gap.predictor import load_model
from mofgap.training import cross_fitting, recipe
from mofgap.training.card import write_card
from mofgap.training.compute import Compute
from mofgap.training.config import FinetuneConfig
from mofgap.training.finetune import Labelled
from mofgap.training.labels import Labels, read_labels
from mofgap.training.loop import TrainingError
from mofgap.training.recipe import calibration_of, train
from mofgap.training.result import CROSS_FITTED, KNOWN, TrainingResult
from mofgap.uncertainty.scaling import Scaling

CONFIG = FinetuneConfig(epochs=2, batch_atoms=60, learning_rate=1e-2)
ABOUT = About("hse")
GENTLE = FinetuneConfig(epochs=1, batch_atoms=60, learning_rate=0.0, noise_learning_rate=0.0)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, tiny_frame: pd.DataFrame) -> Path:
    """Labels of two theories, related by a line; the second has labels for other structures too."""
    path = tmp_path_factory.mktemp("tables") / "table.parquet"
    frame = tiny_frame.assign(hse_gap_ev=1.4 * tiny_frame.gap_ev + 0.9)
    frame["structure_id"] = [f"{name}x" if i % 2 else name for i, name in enumerate(frame.structure_id)]
    frame.to_parquet(path)
    tiny_frame.to_parquet(path.with_name("first.parquet"))
    return path


@pytest.fixture(scope="module")
def parent(
    table: Path,
    tiny_encoder: CrystalTransformerConfig,
    encoder_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("models") / "pbe"
    model = GapModelConfig(encoder_settings=asdict(tiny_encoder), head_hidden=16, rank=2)
    labels = read_labels(table.with_name("first.parquet"), None, "gap_ev")
    train(labels, folder, model, CONFIG, encoder_file, About("pbe"), compute=Compute("cpu", progress=False))
    return folder


def go_on(table: Path, folder: Path, parent: Path, config: FinetuneConfig) -> TrainingResult:
    labels = read_labels(table, None, "hse_gap_ev")
    about = About("hse", level_of_theory="HSE06")
    return train(labels, folder, None, config, parent, about, compute=Compute("cpu", progress=False))


def test_adapters_and_head_move_and_the_encoder_does_not(table: Path, parent: Path, tmp_path: Path) -> None:
    outcome = go_on(table, tmp_path / "hse", parent, CONFIG)
    old, new = (load_file(folder / "model.safetensors") for folder in (parent, tmp_path / "hse"))
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert {"head.out.weight", "gap_mean_ev"} <= moved
    assert all(name.startswith(("head.", "gap_")) for name in moved)
    adapters = [load_file(f / "adapter" / "adapter_model.safetensors") for f in (parent, tmp_path / "hse")]
    assert all(not torch.equal(adapters[0][name], adapters[1][name]) for name in adapters[0])
    loaded = load_model(tmp_path / "hse", "cpu")
    assert loaded.about == About("hse", level_of_theory="HSE06")
    assert outcome.parent == "pbe" and outcome.n_trainable > 0
    assert json.loads((tmp_path / "hse" / "metrics.json").read_text())["parent"] == "pbe"


def test_the_rest_of_the_encoder_moves_too_where_it_is_unfrozen(
    table: Path, parent: Path, tmp_path: Path
) -> None:
    unfrozen = replace(CONFIG, unfreeze=True)
    outcome = go_on(table, tmp_path / "hse", parent, unfrozen)
    still = go_on(table, tmp_path / "still", parent, replace(unfrozen, epochs=0))
    assert still.n_trainable == 0
    assert set(load_model(tmp_path / "still", "cpu").novelty.ids) > set(load_model(parent, "cpu").novelty.ids)
    old, new = (load_file(folder / "model.safetensors") for folder in (parent, tmp_path / "hse"))
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert "encoder.element.weight" in moved and "encoder.blocks.0.query.weight" not in moved
    # What the parent kept of its structures are features of an encoder that is no more.
    assert not set(load_model(tmp_path / "hse", "cpu").novelty.ids) - set(pd.read_parquet(table).structure_id)
    write_card(tmp_path / "hse", read_labels(table, None, "hse_gap_ev"), outcome, unfrozen, "mofgap train")
    assert "weights without adapters were trained" in (tmp_path / "hse" / "card.md").read_text()


@pytest.mark.parametrize(("level", "known"), [("HSE06", False), ("unknown", False), ("PBE", True)])
def test_gaps_of_another_level_are_not_told_of_neighbours(
    table: Path, parent: Path, tmp_path: Path, level: str, known: bool
) -> None:
    model, about, calibration, novelty = read_model(parent)
    save_model(tmp_path / "pbe", model, replace(about, level_of_theory="PBE"), calibration, novelty)
    labels, still = read_labels(table, None, "hse_gap_ev"), replace(CONFIG, epochs=0)
    train(labels, tmp_path / "new", None, still, tmp_path / "pbe", About("new", level_of_theory=level))
    old, new = (load_model(tmp_path / name, "cpu").novelty for name in ("pbe", "new"))
    own = labels.frame[labels.frame.split == "train"].set_index("structure_id").hse_gap_ev
    assert set(new.ids) - set(own.index) and set(own.index) - set(old.ids)
    for place, name in enumerate(new.ids):
        if name in own.index:
            assert new.gap_ev[place] == np.float32(own[name])
        else:
            assert np.isfinite(new.gap_ev[place]) == known


def raw_predictions(folder: Path, frame: pd.DataFrame) -> Posterior:
    model = load_model(folder, "cpu").model
    store = build_store(table_crystals(frame), model.graph_config)
    return predict_store(model, store, range(len(frame)))


@pytest.mark.parametrize(("factor", "slope"), [(1.4, 1.4), (0.1, 1.0)])
def test_it_starts_from_the_line_between_the_theories(
    factor: float, slope: float, table: Path, parent: Path, tmp_path: Path
) -> None:
    frame = pd.read_parquet(table)
    old = raw_predictions(parent, frame)
    labels = factor * old.gap_ev + 0.9
    frame.assign(hse_gap_ev=labels).to_parquet(tmp_path / "line.parquet")
    go_on(tmp_path / "line.parquet", tmp_path / "hse", parent, GENTLE)
    new = raw_predictions(tmp_path / "hse", frame)
    shift = (labels - slope * old.gap_ev)[(frame.split == "train").to_numpy()].mean()
    np.testing.assert_allclose(new.gap_ev, slope * old.gap_ev + shift, atol=1e-4)
    np.testing.assert_allclose(new.aleatoric_std_ev, slope * old.aleatoric_std_ev, rtol=1e-3)


def test_each_structure_is_predicted_by_a_model_that_never_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"s{i}" for i in range(23)]
    families = ["f" if i % 4 == 0 else name for i, name in enumerate(ids)]
    data = Labelled(ids, None, np.zeros(23), list(range(3, 23)), [])  # type: ignore[arg-type]
    trained: list[tuple[set[int], Path]] = []

    def run(model: set[int], data: Labelled, folder: Path, place: int) -> None:
        assert not data.val
        model.update(data.train)
        trained.append((model, folder))

    def predict(model: set[int], store: None, rows: list[int]) -> Posterior:
        assert not model & set(rows) and model | set(rows) == set(range(3, 23))
        assert not {families[i] for i in model} & {families[i] for i in rows}
        return Posterior(*(np.array(rows, dtype=float) for _ in range(4)))

    monkeypatch.setattr(cross_fitting, "predict_store", predict)
    rows, found = cross_fitting.cross_fit(set, data, families, Path("work"), run)  # type: ignore[arg-type]
    assert sorted(rows) == list(range(3, 23)) and found.gap_ev.tolist() == rows
    assert len({folder for _, folder in trained}) == len(trained) == 5
    shuffled = replace(data, train=data.train[::-1])
    assert cross_fitting.cross_fit(set, shuffled, families, Path("work"), run)[0] == rows  # type: ignore[arg-type]
    families = ids  # as where all are of one family
    alone = cross_fitting.cross_fit(set, data, ids, Path("work"), run)[0]  # type: ignore[arg-type]
    for large in (["f"] * 23, ["f"] * 14 + ids[14:]):
        assert cross_fitting.cross_fit(set, data, large, Path("work"), run)[0] == alone  # type: ignore[arg-type]


def test_without_validation_rows_all_epochs_are_run_and_errors_are_cross_fitted(
    table: Path, parent: Path, tmp_path: Path
) -> None:
    frame = pd.read_parquet(table).assign(split="train")
    strangers = frame.assign(structure_id=[f"{name}y" for name in frame.structure_id])
    # Most of the relatives taught the parent: too few others are left for intervals.
    for rows, n_used in ((frame, 0), (strangers, 30)):
        folder, labels = tmp_path / str(n_used), Labels(rows, "hse_gap_ev", ())

        def go_on(resume: bool, folder: Path = folder, labels: Labels = labels) -> TrainingResult:
            return train(
                labels,
                folder,
                None,
                CONFIG,
                parent,
                ABOUT,
                resume=resume,
                compute=Compute("cpu", progress=False),
            )

        outcome = go_on(resume=False)
        assert {name.removesuffix(KNOWN) for name in outcome.metrics} == {"cross-fitted"}
        assert sum(scores["n"] for scores in outcome.metrics.values()) == 30
        calibration = load_model(folder, "cpu").calibration
        assert sum(len(group.values) for group in calibration.residuals) == n_used
        epochs = pd.read_csv(folder / "training" / "metrics.csv").epoch
        assert epochs.tolist() == [0, 1] and not list(folder.rglob("best.ckpt"))
        write_card(folder, labels, outcome, CONFIG, "mofgap train")
        card = (folder / "card.md").read_text()
        assert "All epochs were run on all of train" in card and "chosen on val" not in card
    assert go_on(resume=True).metrics == outcome.metrics
    regrouped = Labels(strangers.assign(group="one family"), "hse_gap_ev", ())
    with pytest.raises(TrainingError, match="families"):  # their folds would not be those of the models
        go_on(resume=True, labels=regrouped)


def test_models_of_the_folds_are_corrected_where_the_model_is(
    table: Path, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "MIN_CORRECTION_ROWS", 25)
    monkeypatch.setattr(correction, "N_NEIGHBOURS", 5)
    sizes, own = [], cross_fitting.predict_store

    def predict(model: GapModel, store: GraphStore, rows: list[int]) -> Posterior:
        sizes.append(model.config.correction_size)
        return own(model, store, rows)

    monkeypatch.setattr(cross_fitting, "predict_store", predict)
    frame = pd.read_parquet(table).assign(split="train")
    frame["group"] = frame.structure_id  # folds of the same size
    labels = Labels(frame, "hse_gap_ev", ())
    compute = Compute("cpu", progress=False)
    train(labels, tmp_path / "model", None, CONFIG, parent, ABOUT, compute=compute)
    assert len(frame) == 30 and sizes == [24] * 5
    assert load_model(tmp_path / "model", "cpu").model.config.correction_size == 30


def test_novelty_knows_both_trainings(table: Path, parent: Path, tmp_path: Path) -> None:
    go_on(table, tmp_path / "hse", parent, GENTLE)
    old, new = load_model(parent, "cpu").novelty, load_model(tmp_path / "hse", "cpu").novelty
    frame = pd.read_parquet(table)
    assert set(new.ids) == set(old.ids) | set(frame.structure_id[frame.split == "train"])
    assert len(new.ids) == len(set(new.ids)) == len(new.points) > len(old.ids)


def test_card_names_the_parent_and_the_error_bars(table: Path, parent: Path, tmp_path: Path) -> None:
    outcome = go_on(table, tmp_path / "hse", parent, GENTLE)
    write_card(tmp_path / "hse", read_labels(table, None, "hse_gap_ev"), outcome, GENTLE, "mofgap train")
    assert "was trained on" not in (tmp_path / "hse" / "card.md").read_text()
    card = (tmp_path / "hse" / "card.md").read_text()
    assert "Started from the gap model pbe" in card and "raw, without a guarantee" in card
    assert "than those of new structures: the epoch was chosen there." in card and "no surprise" not in card
    assert "The epoch was chosen on val." in card


@pytest.mark.parametrize(("n", "words"), [(6, "Nothing was held out"), (12, "| cross-fitted |")])
def test_card_says_no_more_than_few_structures_allow(
    parent: Path, tiny_frame: pd.DataFrame, tmp_path: Path, n: int, words: str
) -> None:
    few = tiny_frame.head(n).assign(split="train", structure_id=[f"few-{i}" for i in range(n)])
    labels = Labels(few, "gap_ev", ())
    compute = Compute("cpu", progress=False)
    outcome = train(labels, tmp_path / "few", None, GENTLE, parent, ABOUT, compute=compute)
    write_card(tmp_path / "few", labels, outcome, GENTLE, "mofgap train")
    card = (tmp_path / "few" / "card.md").read_text()
    assert words in card and "raw, without a guarantee" in card
    assert "better than" not in card and "no surprise" not in card and "| |  |" not in card


@pytest.mark.parametrize(("n", "kind"), [(24, "raw"), (25, "intervals"), (199, "intervals"), (200, "both")])
def test_a_calibration_is_as_much_as_the_rows_allow(n: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    gap, spread = rng.uniform(1, 4, n), rng.uniform(0.1, 0.3, n)
    found = Posterior(gap, np.full(n, np.nan), spread, np.empty((n, 0)))
    label = np.maximum(gap + 2 * spread * rng.normal(size=n), 0)
    kept = Scaling(1.0, 1.5)
    fitted = calibration_of(found, label, [f"s{i}" for i in range(n)], kept)
    assert fitted.is_raw == (kind == "raw") and (fitted.scaling == kept) == (kind != "both")
    if kind == "intervals":
        assert len(fitted.residuals[0].values) == n


def test_held_out_structures_that_the_parent_was_trained_on_are_counted(
    table: Path, parent: Path, tmp_path: Path
) -> None:
    frame = pd.read_parquet(table.with_name("first.parquet"))
    other = frame.split.map({"train": "test", "val": "train", "test": "val"})
    frame.assign(split=other, hse_gap_ev=frame.gap_ev + 1).to_parquet(tmp_path / "t.parquet")
    outcome = go_on(tmp_path / "t.parquet", tmp_path / "hse", parent, GENTLE)
    n = int((other == "test").sum())
    assert outcome.known == {"test": n}
    # Their scores stand apart: there is no other structure of test.
    assert "test" not in outcome.metrics and outcome.metrics[f"test{KNOWN}"]["n"] == n
    assert outcome.metrics["val"]["n"] == (other == "val").sum()
    write_card(
        tmp_path / "hse", read_labels(tmp_path / "t.parquet", None, "hse_gap_ev"), outcome, GENTLE, "x"
    )
    card = (tmp_path / "hse" / "card.md").read_text()
    assert f"pbe was trained on {n} structures of test before" in card and f"test{KNOWN}" in card


def test_structures_that_the_parent_was_trained_on_are_known_by_other_names_too(
    table: Path, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.read_parquet(table.with_name("first.parquet"))
    other = frame.split.map({"train": "test", "val": "train", "test": "val"})
    renamed = [f"mine-{name}" for name in frame.structure_id]
    frame.assign(split=other, structure_id=renamed, hse_gap_ev=frame.gap_ev + 1).to_parquet(
        tmp_path / "t.parquet"
    )
    monkeypatch.setattr("mofgap.uncertainty.novelty.MIN_DIMS", 1)  # of so few structures
    outcome = go_on(tmp_path / "t.parquet", tmp_path / "hse", parent, GENTLE)
    assert outcome.known.get("test") == (other == "test").sum()


def test_cross_fitting_stays_on_one_node(table: Path, parent: Path, tmp_path: Path) -> None:
    labels = read_labels(table, None, "hse_gap_ev", needed=())
    labels.frame["split"] = "train"
    many = Compute("cpu", nodes=2, progress=False)
    with pytest.raises(TrainingError, match="one node"):
        train(labels, tmp_path / "hse", None, CONFIG, parent, ABOUT, compute=many)


def test_cross_fitted_structures_that_the_parent_was_trained_on_are_scored_apart(
    table: Path, parent: Path, tmp_path: Path
) -> None:
    """The parent knew 20 of the 30 structures: with few labels none is spared for val or test."""
    frame = pd.read_parquet(table.with_name("first.parquet")).drop(columns="split")
    frame.assign(hse_gap_ev=frame.gap_ev + 1).to_parquet(tmp_path / "t.parquet")
    labels = read_labels(tmp_path / "t.parquet", None, "hse_gap_ev", few=100)
    cpu = Compute("cpu", progress=False)
    outcome = train(labels, tmp_path / "hse", None, GENTLE, parent, ABOUT, compute=cpu)
    fitted = CROSS_FITTED
    assert outcome.known == {fitted: 20}
    assert outcome.metrics[fitted]["n"] == 10 and outcome.metrics[f"{fitted}{KNOWN}"]["n"] == 20


def test_a_line_an_epoch_names_the_model_and_costs_stand_in_a_file_of_their_own(
    table: Path, parent: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = read_labels(table, None, "hse_gap_ev", needed=())
    labels.frame["split"] = "train"
    compute = Compute("cpu", progress=True)
    train(labels, tmp_path / "hse", None, GENTLE, parent, ABOUT, compute=compute)
    lines = [line for line in capfd.readouterr().err.splitlines() if "epoch" in line]
    assert [line.split(",")[0] for line in lines] == [f"model {k} of 6" for k in range(1, 7)]
    assert all("epoch 1 of 1" in line and "left" in line for line in lines)
    cost = json.loads((tmp_path / "hse" / "cost.json").read_text())
    assert cost.keys() == {"seconds", "cpu_seconds"}
    assert "seconds" not in (tmp_path / "hse" / "metrics.json").read_text()


def test_labels_that_are_all_equal_are_refused(table: Path, parent: Path, tmp_path: Path) -> None:
    pd.read_parquet(table).assign(hse_gap_ev=2.0).to_parquet(tmp_path / "equal.parquet")
    with pytest.raises(TrainingError, match=r"all \d+ training labels are 2 eV.*check the column"):
        go_on(tmp_path / "equal.parquet", tmp_path / "hse", parent, GENTLE)
