from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.gap.predictor import GapPredictor, load_model


@pytest.fixture(scope="session")
def tiny(model_folder: Path) -> GapPredictor:
    return load_model(model_folder, "cpu")
