from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mofgap.training.compute import Compute
from mofgap.training.lock import _HELD, KEY, lock
from mofgap.training.loop import TrainingError


def test_a_training_is_taken_up_as_it_was_begun(tmp_path: Path) -> None:
    begun = {"labels": "a"} | Compute("cpu", devices=2).decisive
    lock(tmp_path, begun, resume=False)
    lock(tmp_path, begun, resume=True)
    with pytest.raises(TrainingError, match="labels"):
        lock(tmp_path, begun | {"labels": "b"}, resume=True)
    with pytest.raises(TrainingError, match="number of devices, precision"):
        lock(tmp_path, begun | Compute("cpu", precision="bf16-mixed").decisive, resume=True)


@pytest.mark.parametrize("older", ["0.0.7", None])
def test_a_refusal_names_the_version_that_began_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: str | None
) -> None:
    monkeypatch.setattr("mofgap.training.lock.installed_version", lambda *otherwise: "0.0.9")
    lock(tmp_path, {"settings": "a"}, resume=False)
    with pytest.raises(TrainingError) as of_the_same:
        lock(tmp_path, {"settings": "b"}, resume=True)
    assert "0.0.9" not in str(of_the_same.value)
    record = {"settings": "a"} if older is None else {"settings": "a", "mofgap": older}
    (tmp_path / KEY).write_text(json.dumps(record))
    lock(tmp_path, {"settings": "a"}, resume=True)
    with pytest.raises(TrainingError, match=rf"settings.*mofgap {older or '[a-z ]*'}.*0\.0\.9"):
        lock(tmp_path, {"settings": "b"}, resume=True)


def test_what_an_older_version_did_not_keep_is_not_asked_of_it(tmp_path: Path) -> None:
    (tmp_path / KEY).write_text(json.dumps({"labels": "a"}))
    lock(tmp_path, {"labels": "a", "precision": "32-true"}, resume=True)
    assert json.loads((tmp_path / KEY).read_text()) == {"labels": "a"}


@pytest.mark.parametrize("damage", ["", "[1]", "[" * 100_000, None])
def test_a_damaged_record_is_refused(tmp_path: Path, damage: str | None) -> None:
    lock(tmp_path, {"labels": "a"}, resume=False)
    text = (tmp_path / KEY).read_text()
    (tmp_path / KEY).write_text(text.replace('"a"', '"c"') if damage is None else damage)
    with pytest.raises(TrainingError, match=r"key\.json is damaged"):
        lock(tmp_path, {"labels": "c"}, resume=True)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    """The second would restore what the first has written."""
    words = (
        "from pathlib import Path; from mofgap.training.lock import lock; lock(Path('.'), {}, resume=False)"
    )
    run = [sys.executable, "-c", f"{words}; print('held', flush=True); input()"]
    with subprocess.Popen(run, cwd=tmp_path, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="is being trained by another process"):
            lock(tmp_path, {}, resume=False)
        other.kill()
    lock(tmp_path, {}, resume=False)
    lock(tmp_path, {}, resume=True)


def test_a_folder_that_is_gone_is_no_longer_held(tmp_path: Path) -> None:
    """A process may fit thousands of models in temporary folders, and may open about 1,000 files."""
    (first := tmp_path / "first").mkdir()
    lock(first, {}, resume=False)
    held = _HELD[first / ".lock"]
    shutil.rmtree(first)
    lock(tmp_path / "second", {}, resume=False)
    assert held.closed and first / ".lock" not in _HELD
