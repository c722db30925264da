"""``mofgap compare`` and ``mofgap run`` are one engine: they plan the same, and find each other's work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import mofgap
from mofgap.__main__ import app
from mofgap.configuration import dump
from mofgap.study.config import ComparisonConfig
from mofgap.study.engine.config import RunConfig, ShardedScreening
from mofgap.study.engine.folder import RunFolder

Here = Callable[..., Result]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mofgap", *map(str, arguments)]


def call(*arguments: object, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=280, env=ENVIRONMENT, cwd=at
    )


@pytest.fixture(scope="module")
def place(small: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which ``mofgap compare`` was carried out."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "small.yaml").write_text(dump(small))
    done = call("compare", "small.yaml", "-j", "2", at=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("# Comparison")
    assert done.stderr.splitlines()[0].startswith("[1/") and "prepare: " in done.stderr.splitlines()[0]
    return folder


def test_each_finds_what_the_other_has_done(here: Here, place: Path) -> None:
    run = place / "runs/small"
    before = {path: path.stat().st_mtime_ns for path in run.glob("**/*.record.json")}
    assert before
    for verb in ("run", "compare"):
        found = here(verb, "small.yaml", "--dry-run", at=place)
        assert found.stdout.splitlines()[-1].startswith("0 of "), found.stdout
        done = here(verb, "small.yaml", at=place)
        assert done.exit_code == 0 and done.stderr == "every stage was done already\n"
    assert {path: path.stat().st_mtime_ns for path in run.glob("**/*.record.json")} == before


def test_both_take_the_same_names_of_settings(here: Here, place: Path) -> None:
    change = ("--set", "comparison.judgement.n_draws=20", "--dry-run")
    plans = [here(verb, "small.yaml", *change, at=place).stdout for verb in ("run", "compare")]
    assert plans[0] == plans[1] and "compare" in plans[0]
    assert "configuration changed: judgement" in plans[0] and plans[0].splitlines()[-1].startswith("1 of ")


def test_a_comparison_leaves_the_screening_of_its_run_to_be_done(
    place: Path, small: RunConfig, tmp_path: Path
) -> None:
    shutil.copytree(place / "runs/small", tmp_path / "run")
    both = replace(small, screening=ShardedScreening(inputs=(str(tmp_path / "nowhere"),)))
    (tmp_path / "both.yaml").write_text(dump(both))
    options = [str(tmp_path / "both.yaml"), "-o", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["compare", *options])
    assert done.exit_code == 0, done.output
    assert RunFolder(tmp_path / "run").config == both  # what a later run goes on with
    refused = CliRunner().invoke(app, ["run", *options, "--dry-run"])
    assert refused.exit_code == 1 and "nowhere" in refused.output


def test_a_killed_comparison_goes_on_to_the_same_bytes(here: Here, place: Path) -> None:
    run = place / "killed"
    arguments = command("compare", "small.yaml", "-o", run, "-j", "2")
    first = subprocess.Popen(
        arguments, env=ENVIRONMENT, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert first.stderr is not None
    assert [first.stderr.readline().split()[1] for _ in range(2)] == ["prepare:", "encode:"]
    first.kill()
    first.communicate()
    assert not (run / "comparison.md").exists()
    done = here("compare", "small.yaml", "-o", run, at=place)
    assert done.exit_code == 0, done.stderr
    assert "prepare" not in done.stderr
    for name in ("predictions.parquet", "members/split/lora-seed0/model.safetensors"):
        assert (run / name).read_bytes() == (place / "runs/small" / name).read_bytes()


def test_what_was_moved_aside_is_said(here: Here, place: Path, run: Path) -> None:
    shutil.copytree(place / "runs/small", run)
    change = ("--set", "comparison.judgement.n_draws=20")
    done = here("compare", "small.yaml", "-o", run, *change, at=place)
    assert done.exit_code == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "moved" in line]
    assert "to stale/compare/1: configuration changed: judgement" in line
    assert (run / "stale/compare/1/comparison.md").exists()


def test_a_comparison_needs_one(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(dump(RunConfig("x", screening=ShardedScreening(inputs=("a.cif",)))))
    result = CliRunner().invoke(app, ["compare", str(tmp_path / "x.yaml"), "-o", str(tmp_path / "run")])
    assert result.exit_code == 1 and "this run has no comparison" in result.output


def test_two_runs_do_not_share_a_folder(tiny_config: ComparisonConfig, tmp_path: Path) -> None:
    path, run = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(dump(RunConfig(name="tiny", comparison=tiny_config)))
    with RunFolder(run).locked("run", wait=False):
        for verb in ("compare", "run"):
            result = CliRunner().invoke(app, [verb, str(path), "-o", str(run)])
            assert result.exit_code == 1 and "another mofgap run is at work" in result.output
    assert not (run / "config.yaml").exists()
