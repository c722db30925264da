from __future__ import annotations

import json
from pathlib import Path

import pytest

from mofgap.training.lock import KEY, lock
from mofgap.training.loop import Compute, TrainingError


def test_a_training_is_taken_up_as_it_was_begun(tmp_path: Path) -> None:
    begun = {"labels": "a"} | Compute("cpu", devices=2).decisive
    lock(tmp_path, begun, resume=False)
    lock(tmp_path, begun, resume=True)
    with pytest.raises(TrainingError, match="a training with other labels: resume it with those"):
        lock(tmp_path, begun | {"labels": "b"}, resume=True)
    with pytest.raises(TrainingError, match="with other number of devices, precision:"):
        lock(tmp_path, begun | Compute("cpu", precision="bf16-mixed").decisive, resume=True)


def test_what_an_older_version_did_not_keep_is_not_asked_of_it(tmp_path: Path) -> None:
    (tmp_path / KEY).write_text(json.dumps({"labels": "a"}))
    lock(tmp_path, {"labels": "a", "precision": "32-true"}, resume=True)


@pytest.mark.parametrize("damage", ["", "[1]", "[" * 100_000, None])
def test_a_damaged_record_is_refused(tmp_path: Path, damage: str | None) -> None:
    lock(tmp_path, {"labels": "a"}, resume=False)
    text = (tmp_path / KEY).read_text()
    (tmp_path / KEY).write_text(text.replace('"a"', '"c"') if damage is None else damage)
    with pytest.raises(TrainingError, match=r"key\.json is damaged"):
        lock(tmp_path, {"labels": "c"}, resume=True)
