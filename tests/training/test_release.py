from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest

from mofgap.gap.folder import CALIBRATION, ModelError, read_config, read_model
from mofgap.shipped import DIGESTS, shipped_folder
from mofgap.training.release import release


def test_the_digests_in_the_package_are_those_of_the_shipped_models(tmp_path: Path) -> None:
    """Where this fails, a file of a model changed: ``python -m mofgap.training.release``."""
    models = tmp_path / "models"
    shutil.copytree(shipped_folder("models"), models)
    found = release(models, tmp_path / "digests.json")
    assert (tmp_path / "digests.json").read_bytes() == DIGESTS.read_bytes()
    for name in found:
        described = next(path for path in (models / name).glob("*.json") if "digest" in path.read_text())
        assert described.read_bytes() == (shipped_folder("models") / name / described.name).read_bytes()


def test_a_file_changed_on_purpose_is_sealed(tmp_path: Path, model_folder: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(model_folder, models / "tiny")
    before = release(models, tmp_path / "digests.json")
    path = models / "tiny" / CALIBRATION
    path.write_text(path.read_text() + "\n")
    with pytest.raises(ModelError, match=CALIBRATION):
        read_model(models / "tiny")
    after = release(models, tmp_path / "digests.json")
    assert after.keys() == before.keys() == {"tiny"} and after != before
    assert read_config(models / "tiny")["digest"] == after["tiny"]
    assert json.loads((tmp_path / "digests.json").read_text()) == after
    read_model(models / "tiny")


def test_asking_for_help_seals_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["release", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("mofgap.training.release", run_name="__main__")
