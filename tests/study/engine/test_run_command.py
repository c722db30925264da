"""``mofgap run`` and ``mofgap runs`` as processes, on a screening with a tiny model."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import mofgap
from mofgap.configuration import load
from mofgap.study.engine import cluster
from mofgap.study.engine.cluster import Executor
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunFolder
from mofgap.study.engine.run import Run

Here = Callable[..., Result]
WriteCifs = Callable[[Path, int], list[Path]]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
N_STAGES = 5


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mofgap", *map(str, arguments)]


def call(*arguments: object, at: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=280, env=ENVIRONMENT, cwd=at
    )


def records(run: Path) -> dict[str, dict[str, Any]]:
    found = (json.loads(path.read_text()) for path in run.glob("stages/**/*.record.json"))
    return {record["stage"]: record for record in found}


def configure(folder: Path, model: Path, n_shards: int = 2) -> None:
    screening = {"inputs": ["cifs"], "model": str(model), "shards": n_shards, "window": [1.8, 3.0]}
    (folder / "run.yaml").write_text(json.dumps({"name": "small", "screening": screening}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_cifs: WriteCifs, model_folder: Path) -> Path:
    """A working directory in which a run of two shards was done; one of its files is damaged."""
    folder = tmp_path_factory.mktemp("place") / "no YAML #1: ü"
    write_cifs(folder / "cifs", 6)
    (folder / "cifs/t.cif").write_text("")
    configure(folder, model_folder)
    done = call("run", "run.yaml", "-j", "2", at=folder)
    assert done.returncode == 3, done.stderr
    assert done.stdout.strip() == f"{folder}/runs/small: screening.csv, screening.html"
    stages, said = done.stderr.splitlines()[:N_STAGES], done.stderr.splitlines()[N_STAGES:]
    assert [line.split("]")[0] for line in stages] == [f"[{i}/{N_STAGES}" for i in range(1, N_STAGES + 1)]
    assert said[0].startswith("failed: cifs/t.cif: ") and "1 failed: 7 structures" in said[1]
    assert "next: mofgap select" in said[-1]  # the page is there already
    return folder


def test_the_table_is_that_of_screen(here: Here, place: Path, model_folder: Path) -> None:
    here("screen", "cifs", "--model", model_folder, "--window", "1.8", "3.0", "-o", "by-hand.csv", at=place)
    assert (place / "by-hand.csv").read_bytes() == (place / "runs/small/screening.csv").read_bytes()
    assert "<html" in (place / "runs/small/screening.html").read_text()


def test_the_manifest_accounts_for_everything(place: Path, model_folder: Path) -> None:
    manifest = json.loads((place / "runs/small/manifest.json").read_text())
    assert manifest["finished"] and manifest["name"] == "small" and manifest["seeds"] == {"screening": 0}
    assert manifest["packages"]["torch"] and manifest["python"] and manifest["platform"]
    assert set(manifest["inputs"]) == {"cifs", str(model_folder / "config.json")}
    assert {"config.yaml", "screening.csv", "screening.html"} < set(manifest["outputs"])
    assert set(manifest["stages"]) == {"list", "screen/1-of-2", "screen/2-of-2", "gather", "report/screening"}
    for stage in manifest["stages"].values():
        assert stage["seconds"] > 0 and stage["peak_memory_mb"] > 0 and stage["start"] < stage["end"]


def test_what_is_done_is_left_alone_and_what_changed_is_not(here: Here, place: Path) -> None:
    before = records(place / "runs/small")
    plan = here("run", "run.yaml", "--dry-run", at=place)
    assert plan.exit_code == 0 and f"0 of {N_STAGES} stages to run" in plan.stdout
    again = here("run", "run.yaml", at=place)
    assert again.exit_code == 3 and "every stage was done already" in again.stderr
    assert records(place / "runs/small") == before
    plan = here("run", "run.yaml", "--set", "screening.top=2", "--dry-run", at=place)
    assert "screen/1-of-2     configuration changed: top" in plan.stdout
    assert "gather            if screen/1-of-2 changes" in plan.stdout
    assert f"{N_STAGES - 1} of {N_STAGES} stages to run" in plan.stdout  # the inputs are listed already
    assert records(place / "runs/small") == before


def test_a_file_that_was_tampered_with_is_found_and_made_again(here: Here, place: Path) -> None:
    table = place / "runs/small/screening.csv"
    content = table.read_bytes()
    assert here("runs", "verify", "runs/small", at=place).exit_code == 0
    table.write_bytes(content + b"\n")
    found = here("runs", "verify", "runs/small", at=place)
    assert found.exit_code == 3 and found.stdout == "output screening.csv: changed\n"
    assert here("run", "run.yaml", at=place).exit_code == 3
    assert table.read_bytes() == content
    assert here("runs", "verify", "runs/small", at=place).exit_code == 0


def test_runs_are_listed_shown_and_compared(here: Here, place: Path) -> None:
    other = here(
        "run", "run.yaml", "-o", "runs/other", "--set", "screening.novelty=last", "-j", "2", at=place
    )
    assert other.exit_code == 3
    listed = here("runs", "list", at=place).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["run", "runs/other", "runs/small"]
    assert "gather" in here("runs", "show", "runs/small", at=place).stdout
    differences = here("runs", "diff", "runs/small", "runs/other", at=place).stdout
    assert "screening.novelty  keep" in differences and "last" in differences
    assert here("runs", "diff", "runs/small", "runs/small", at=place).stdout == "no difference\n"
    nothing = here("runs", "show", "cifs", at=place)
    assert nothing.exit_code == 1 and "cifs is no run folder" in nothing.stderr


def test_a_killed_run_goes_on_to_the_same_table(here: Here, place: Path, model_folder: Path) -> None:
    run = place / "runs/killed"
    arguments = command("run", "run.yaml", "-o", run, "-j", "2")
    process = subprocess.Popen(arguments, env=ENVIRONMENT, cwd=place, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert b"list" in process.stderr.readline()
    assert b"screen/" in process.stderr.readline()  # one shard of two
    process.kill()
    process.communicate()
    assert not (run / "screening.csv").exists()
    done = here("run", "run.yaml", "-o", run, "-j", "2", at=place)
    assert done.exit_code == 3, done.stderr
    assert (run / "screening.csv").read_bytes() == (place / "runs/small/screening.csv").read_bytes()


def test_a_failure_is_told_with_its_reason(here: Here, place: Path) -> None:
    (place / "empty").mkdir(exist_ok=True)
    (place / "empty/notes.txt").touch()
    found = here("run", "run.yaml", "-o", "runs/bad", "--set", "screening.model=cifs", at=place)
    assert found.exit_code == 1 and "screening.model: cifs" in found.stderr
    assert "Traceback" not in found.stderr
    wrong = here("run", "run.yaml", "-o", "runs/bad", "--set", "screening.shards=0", at=place)
    assert wrong.exit_code == 1 and "screening.shards: must be at least 1, got 0" in wrong.stderr


def test_options_of_snakemake_need_it(here: Here, place: Path) -> None:
    found = here("run", "run.yaml", "--", "--dag", at=place)
    assert found.exit_code == 1 and "--dag: " in found.stderr and "--executor" in found.stderr


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="snakemake is not installed")
def test_snakemake_makes_the_same_table_and_draws_the_stages(
    here: Here, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """By its own local executor, as it would on a cluster."""
    loaded = load(RunConfig, place / "run.yaml")
    run, said = RunFolder(place / "runs/snakemake"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        names = [stage.name for stage in Run(loaded, run.path)._stale()]
        with run.locked("run", wait=False):
            assert cluster.execute(run, names, Executor(2), 0, said.append) == {}
    assert sorted(said) == sorted(names) and len(names) == N_STAGES
    assert (run.path / "screening.csv").read_bytes() == (place / "runs/small/screening.csv").read_bytes()
    assert "every stage was done already" in here("run", "run.yaml", "-o", run.path, at=place).stderr
    capfd.readouterr()
    cluster.execute(run, [], Executor(1, options=("--dag",)), 0, print)
    drawn = capfd.readouterr().out
    assert drawn.startswith("digraph") and "gather" in drawn


def test_an_executor_that_is_not_installed(here: Here, place: Path) -> None:
    found = here("run", "run.yaml", "--executor", "nowhere", at=place)
    assert found.exit_code == 1
    assert "pip install snakemake-executor-plugin-nowhere" in found.stderr
