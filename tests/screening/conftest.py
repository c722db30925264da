from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.gap.predictor import GapPredictor, load_model


@pytest.fixture
def both(model_folder: Path, hse_folder: Path) -> GapPredictor:
    """The model of HSE06, with that of PBE as the second level."""
    return load_model(hse_folder, "cpu", model_folder)
