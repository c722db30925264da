"""Processes that srun starts: a script in its place writes what they leave."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mofgap.study.engine.folder import RunError, RunFolder, write_state
from mofgap.study.engine.ranks import launch

STAGE = "train/split/a"
COST = {"cpu_seconds": 2.0, "peak_memory_mb": 1e6, "host": "node1"}


def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> RunFolder:
    path = tmp_path / "bin" / "srun"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    for rank in (0, 1):
        write_state(tmp_path / f"rank{rank}", COST | {"host": f"node{rank}"})
    folder = RunFolder(tmp_path / "run")
    folder.rank(STAGE, 0).parent.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("damaged", ['{"cpu_seconds": 2', '{"host": "node1"}', "[]"])
def test_a_damaged_file_of_a_rank_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    stages = tmp_path / "run" / "stages" / STAGE
    script = f"cp {tmp_path}/rank0 {stages}.rank0.json; echo '{damaged}' > {stages}.rank1.json"
    folder = srun(tmp_path, monkeypatch, script)
    cost = launch(STAGE, folder, 2, 1, 1, lambda _: None)
    assert (cost["cpu_seconds"], cost["hosts"], cost["processes"]) == (2.0, ["node0"], 2)


def test_what_an_earlier_start_left_is_not_taken_for_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = srun(tmp_path, monkeypatch, "true")
    write_state(folder.rank(STAGE, 0), COST)
    assert launch(STAGE, folder, 2, 1, 1, lambda _: None)["hosts"] == []


def test_a_rank_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = srun(tmp_path, monkeypatch, "exit 9")
    with pytest.raises(RunError, match=f"{STAGE}.*9"):
        launch(STAGE, folder, 2, 1, 1, lambda _: None)
