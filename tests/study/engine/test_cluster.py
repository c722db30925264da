from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from mofgap.study.engine import cluster as engine
from mofgap.study.engine.cluster import Executor, check_installed
from mofgap.study.engine.folder import RunError, RunFolder
from mofgap.study.engine.run import _failures


def test_a_missing_snakemake_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"Snakemake 9.*mofgap\[study\]"):
        check_installed(Executor(1, "slurm"))


def test_a_missing_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "snakemake" or None)
    with pytest.raises(RunError, match=r"slurm.*mofgap\[study\]"):
        check_installed(Executor(1, "slurm"))


def test_a_cluster_is_told_how_many_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Executor(4, "lsf", ("--quiet",)).arguments == ["--executor", "lsf", "--jobs", "4", "--quiet"]
    monkeypatch.setattr(engine.subprocess, "run", _no_sacct)
    squeue = Executor(4, "slurm", ("--slurm-status-command", "sacct")).arguments
    assert squeue[:4] == ["--executor", "slurm", "--jobs", "4"]
    assert squeue.index("squeue") < squeue.index("sacct")  # what the user says comes last, and wins


def _no_sacct(*arguments: object, **options: object) -> None:
    raise FileNotFoundError("sacct")


def test_a_failure_shows_the_end_of_its_log(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log("train/a").parent.mkdir(parents=True)
    folder.log("train/a").write_text("".join(f"line {i}\n" for i in range(9)) + "mofgap: the disk is full\n")
    (text,) = _failures(folder, {"train/a": ""})
    assert text.splitlines()[1:] == [f"  line {i}" for i in range(5, 9)] + ["  mofgap: the disk is full"]


def test_a_job_that_never_began_shows_no_log_of_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.log("train/a").parent.mkdir(parents=True)
    folder.log("train/a").write_text("train/a: done\n")
    monkeypatch.setattr(engine, "SNAKEFILE", tmp_path / "missing")
    with pytest.raises(RunError, match=r"Snakemake ended with exit code 1:\n.*missing"):
        engine.execute(folder, ["train/a"], Executor(1), 0, print)
    assert not folder.log("train/a").exists()
