"""The shipped model is there, whole, described, and says what it said when it was shipped.

How it bears other ways of writing a structure down is tested in ``gap/test_invariance.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from mofgap.crystals.dataset import read_table, table_crystals
from mofgap.gap.folder import find_model, read_config
from mofgap.gap.predictor import GapPredictor, crystal_of, load_model
from mofgap.shipped import shipped_folder
from mofgap.uncertainty import metrics

MODEL = "qmof-pbe"
GOLDEN = Path(__file__).parent / "golden" / f"{MODEL}.json"
TOLERANCE_EV = 2e-3
"""Processors differ in the last bits of their arithmetic."""

CITED = ("10.1016/j.matt.2021.02.015", "10.1038/s41524-022-00796-6", "CC BY 4.0")
SAMPLED_ROWS = 100


@lru_cache
def predictor() -> GapPredictor:
    return load_model(MODEL, device="cpu")


@lru_cache
def card() -> str:
    return (find_model(MODEL) / "card.md").read_text(encoding="utf-8")


def card_figure(label: str, split: str) -> float:
    """A figure of the card's table of metrics."""
    lines = card().splitlines()
    header = next(line for line in lines if re.match(r"\| *\|", line))
    row = next(line for line in lines if line.startswith(f"| {label}"))
    column = [cell.strip() for cell in header.split("|")].index(split)
    return float(row.split("|")[column])


def development_table() -> Path:
    """The table the model was trained on, which is not part of the repository."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "qmof.parquet"
    path = Path(os.environ.get("MOFGAP_TABLE", beside))
    if not path.exists():
        pytest.skip("the development table is not here; MOFGAP_TABLE names it")
    return path


def test_the_examples_get_their_golden_values() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    paths = sorted(shipped_folder("examples").glob("*.cif"))
    assert sorted(golden) == [path.name for path in paths]
    gaps, stds = predictor().predict([crystal_of(path) for path in paths], return_std=True)
    moved = {
        path.name: (values, gap, std)
        for path, gap, std in zip(paths, gaps, stds, strict=True)
        for values in [golden[path.name]]
        if abs(gap - values["gap_ev"]) > TOLERANCE_EV or abs(std - values["gap_std_ev"]) > TOLERANCE_EV
    }
    assert not moved


def test_the_golden_values_are_those_of_a_model_that_can_tell() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    gaps = np.array([values["gap_ev"] for values in golden.values()])
    stds = np.array([values["gap_std_ev"] for values in golden.values()])
    assert (gaps >= 0).all()
    assert gaps.std() > 0.5
    assert (stds > 0.02).all()
    assert stds.std() > 0.02


def test_every_file_is_the_one_that_was_saved() -> None:
    folder = find_model(MODEL)
    described = read_config(folder)
    for name, expected in described["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected, name
    unhashed = {"config.json", "card.md", "metrics.json"}
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert present == set(described["sha256"]) | unhashed
    assert sum((folder / name).stat().st_size for name in present) < 20e6


def test_the_model_is_calibrated_balora() -> None:
    model = predictor()
    assert model.model.config.method == "balora"
    assert not model.calibration.is_raw
    assert model.about.name == MODEL
    assert "PBE" in model.about.level_of_theory
    assert len(model.novelty.ids) > 10_000
    assert any(layer.lora_B.abs().max() > 0 for layer in model.model.layers.values())


@pytest.mark.parametrize("cited", CITED)
def test_the_card_states_the_data_and_its_licence(cited: str) -> None:
    assert cited in card()


def test_the_card_states_how_the_model_was_made() -> None:
    text = card()
    assert "balora" in text
    assert re.search(r"\bseed \d+", text)
    assert re.search(r"^mofgap train .*qmof\.parquet", text, re.MULTILINE)
    assert not re.search(r"(^|[\s=])/(work|opt|home|tmp|root)/", text)
    assert re.search(r"\d[\d,]* trained parameters", text)
    assert re.search(r"\d+ minutes", text)


def test_the_card_states_what_was_measured() -> None:
    scores = json.loads((find_model(MODEL) / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    for label, key in (
        ("mean absolute error", "mae_ev"),
        ("Spearman of std", "spearman"),
        ("coverage of 90 %", "coverage_90"),
    ):
        for split in ("val", "test"):
            assert card_figure(label, split) == pytest.approx(scores[split][key], rel=1e-3)


def test_the_card_is_right_about_the_test_split() -> None:
    frame = read_table(development_table())
    test = frame[frame.split == "test"]
    assert len(test) == card_figure("structures", "test")
    rows = test.sample(SAMPLED_ROWS, random_state=0)
    found = predictor().estimate(list(table_crystals(rows)))
    gaps, stds = found.gap_ev, found.gap_std_ev
    true = rows.pbe_gap_ev.to_numpy()
    errors = np.abs(gaps - true)
    assert errors.mean() < 0.40
    four_sigma = 4 * errors.std(ddof=1) / np.sqrt(SAMPLED_ROWS)
    assert abs(errors.mean() - card_figure("mean absolute error", "test")) < four_sigma
    lo, hi = predictor().calibration.interval(gaps, stds, 0.9, found.novelty)
    assert abs(metrics.coverage(true, lo, hi) - card_figure("coverage of 90 %", "test")) < 0.12
    assert abs(metrics.spearman(true, gaps, stds) - card_figure("Spearman of std", "test")) < 0.4
    stated = predictor().calibration.p_in_window(gaps, stds, 1.8, 3.0, found.novelty)
    inside = (true >= 1.8) & (true <= 3.0)
    assert abs(metrics.spiegelhalter(inside, stated)) < 4
    assert metrics.brier(inside, stated) < 0.6 * metrics.brier(inside, np.full(len(inside), inside.mean()))
    assert not set(predictor().novelty.ids) & set(test.structure_id)
