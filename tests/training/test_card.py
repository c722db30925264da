from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from mofgap.training.atoms import ATOM_TARGETS
from mofgap.training.card import write_encoder_card


def test_the_card_of_an_encoder_has_the_figures_of_its_best_epoch(tmp_path: Path) -> None:
    described = {"architecture": "crystal-transformer", "encoder": {}, "pretraining": {}}
    (tmp_path / "encoder.json").write_text(json.dumps(described))
    errors = {f"val_mae_{name}": [0.3, 0.1, 0.2] for name in ATOM_TARGETS}
    epochs = {"epoch": [0, 1, 2], "val_loss": [3.0, 1.0, 2.0], "val_element_accuracy": 0.5}
    pd.DataFrame(epochs | errors).to_csv(tmp_path / "metrics.csv", index=False)
    write_encoder_card(tmp_path, 20, "mofgap pretrain", "")
    card = (tmp_path / "card.md").read_text()
    assert card.count("| 0.1000 |") == len(ATOM_TARGETS)
