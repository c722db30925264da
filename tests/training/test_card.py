from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from mofgap.gap.folder import About, rename
from mofgap.training.atoms import ATOM_TARGETS
from mofgap.training.card import _SHOWN, describe_anew, write_card, write_encoder_card
from mofgap.training.config import FinetuneConfig
from mofgap.training.labels import Labels
from mofgap.training.result import TrainingResult
from mofgap.training.unseen import substitute_in


def test_the_card_of_an_encoder_has_the_figures_of_its_best_epoch(tmp_path: Path) -> None:
    described = {"architecture": "crystal-transformer", "encoder": {}, "pretraining": {}}
    (tmp_path / "encoder.json").write_text(json.dumps(described))
    errors = {f"val_mae_{name}": [0.3, 0.1, 0.2] for name in ATOM_TARGETS}
    epochs = {"epoch": [0, 1, 2], "val_loss": [3.0, 1.0, 2.0]}
    for more in ({"val_element_accuracy": 0.5}, {}):  # the latter where no element was masked
        pd.DataFrame(epochs | errors | more).to_csv(tmp_path / "metrics.csv", index=False)
        write_encoder_card(tmp_path, 20, "mofgap pretrain", "")
        card = (tmp_path / "card.md").read_text()
        assert card.count("| 0.1000 |") == len(ATOM_TARGETS) and "Best epoch: 2." in card  # counted from 1
        assert ("named correctly: 50.0%" in card) == bool(more)


def test_the_card_of_a_model_names_elements_that_are_read_as_others(
    tmp_path: Path, model_folder: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(model_folder, folder)
    frame = pd.DataFrame({"split": ["train"] * 3, "atomic_numbers": [[8, 1, 30], [1, 6], [6, 1]]})
    labels, outcome = Labels(frame, "gap_ev", ()), TrainingResult({}, 1.0, 10)
    write_card(folder, labels, outcome, FinetuneConfig(), "mofgap train")
    assert "treated as similar ones" not in (folder / "card.md").read_text()
    substitute_in(folder, np.bincount([30] * 12, minlength=119))
    write_card(folder, labels, outcome, FinetuneConfig(), "mofgap train")
    assert "each treated as similar ones: Li, " in (folder / "card.md").read_text()


def test_the_card_of_a_model_names_the_elements_of_its_train_structures(
    tmp_path: Path, model_folder: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(model_folder, folder)
    numbers = [[30, 8, 1], np.array([29, 6]), [92, 1]]
    frame = pd.DataFrame({"split": ["train", "train", "val"], "atomic_numbers": numbers})
    labels = Labels(frame, "gap_ev", ())
    write_card(folder, labels, TrainingResult({}, 1.0, 10), FinetuneConfig(), "mofgap train")
    assert "The structures of train have 5 elements: H, C, O, Cu, Zn." in (folder / "card.md").read_text()


def test_the_card_of_a_model_names_the_epoch_that_val_chose(tmp_path: Path, model_folder: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(model_folder, folder)
    (folder / "training").mkdir(exist_ok=True)
    epochs = {"epoch": [0, 0, 1, 1, 2], "val_mae_ev": [0.4, None, 0.2, None, 0.3]}
    pd.DataFrame(epochs).to_csv(folder / "training" / "metrics.csv", index=False)
    metrics = dict.fromkeys(_SHOWN, 0.5) | {"n": 12345.0}
    outcome = TrainingResult({"val": metrics}, 1.0, 10)
    frame = pd.DataFrame({"split": ["train"] * 3, "atomic_numbers": [[1, 8]] * 3})
    write_card(folder, Labels(frame, "gap_ev", ()), outcome, FinetuneConfig(), "mofgap train")
    card = (folder / "card.md").read_text()
    assert "The epoch was chosen on val. It was epoch 2." in card and "| structures | 12345 |" in card


def test_a_citation_is_replaced_where_it_stands(tmp_path: Path, model_folder: Path) -> None:
    """And not where the name or the level holds the same word."""
    folder = tmp_path / "tiny"
    shutil.copytree(model_folder, folder)
    rename(folder, About("PBE of us", level_of_theory="PBE", citation="PBE"))
    labels = Labels(pd.DataFrame({"split": ["train"], "atomic_numbers": [[1, 8]]}), "gap_ev", ())
    write_card(folder, labels, TrainingResult({}, 1.0, 10), FinetuneConfig(), "mofgap train")
    describe_anew(folder, About("PBE of us", level_of_theory="PBE", citation="Somebody 2026"))
    lines = (folder / "card.md").read_text().splitlines()
    assert lines[0] == "# PBE of us" and "labels: PBE." in lines[2] and "Somebody 2026" in lines
