"""A run on SLURM, with scripts in the place of its commands."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import mofgap
from mofgap.shipped import shipped_folder
from mofgap.study.engine import cluster, slurm
from mofgap.study.engine.cluster import LOCKS, OWNER, Executor
from mofgap.study.engine.config import ResourcesConfig, RunConfig, ShardedScreening
from mofgap.study.engine.folder import RunError, RunFolder
from mofgap.study.engine.snakemake_log import SnakemakeLog
from mofgap.whole_file import write_json

SCRIPTS = {
    # Tells of each job in a pipe, so that a test can wait for it.
    "sbatch": """
        echo "sbatch $*" >> calls
        case "$*" in *--test-only*) exit 0 ;; esac
        echo $$ $(echo "$*" | sed 's/.*--job-name \\([^ ]*\\).*/\\1/') >> queue
        [ ! -p submitted ] || echo $$ > submitted
        echo $$""",
    "sacct": """
        case "$*" in *Reason*) exit 0 ;; esac
        [ ! -f queue ] || while read -r id name; do echo "$id|$(cat state)"; done < queue""",
    "squeue": "cat queue 2>/dev/null || true",
    "scancel": 'echo "scancel $*" >> calls; rm queue',
    "sacctmgr": "echo nobody",
    "sshare": "echo nobody",
    "sinfo": "true",
}
OUT_OF_MEMORY = """rule train_each:
    output: stages/train/a.done

Error in rule train_each:
    message: SLURM-job '7' failed, SLURM status is: 'OUT_OF_MEMORY'. Reason: Unknown.For further error \
details see the cluster/cloud log and the log files of the involved rule(s).
    jobid: 1
    input: stages/train/a.request.json
    output: stages/train/a.done
    log: logs/train/a.log, {log} (check log file(s) for error details)
    external_jobid: 7
"""
REFUSED = """Error in rule gather:
    message: SLURM sbatch failed. The error message was 'sbatch: error: invalid partition specified: gpuu
sbatch: error: Batch job submission failed: Invalid partition name specified'.
    sbatch call:
        sbatch --parsable
For further error details see the cluster/cloud log and the log files of the involved rule(s).
    jobid: 2
    output: stages/gather.done
    log: logs/gather.log (check log file(s) for error details)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the scripts are told and tell."""
    place = tmp_path / "slurm"
    (place / "bin").mkdir(parents=True)
    for name, script in SCRIPTS.items():
        write_script(place, name, script)
    monkeypatch.setenv("PATH", f"{place}/bin{os.pathsep}{os.environ['PATH']}")
    return place


def write_script(place: Path, name: str, script: str) -> None:
    path = place / "bin" / name
    path.write_text(f"#!/bin/sh\ncd {place}\n{script}\n")
    path.chmod(0o755)


def config(**resources: object) -> RunConfig:
    example = str(min(shipped_folder("examples").glob("*.cif")))
    asked = ShardedScreening(inputs=(example,))
    return RunConfig("x", screening=asked, report=False, resources=ResourcesConfig(**resources))  # type: ignore[arg-type]


def test_a_machine_without_sbatch_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=r"no sbatch.*login node"):
        slurm.check_accepts(config(), ["screen"])


def test_slurm_is_asked_once_for_each_kind_of_job(fake: Path) -> None:
    slurm.check_accepts(config(partition="gpu"), ["screen", "gather", "report"])
    (call,) = (fake / "calls").read_text().splitlines()
    assert {"--test-only", "--partition=gpu", "--mem=4000", "--time=60"} < set(call.split())


def test_a_refusal_is_told_in_the_words_of_slurm(fake: Path) -> None:
    write_script(fake, "sbatch", "echo 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1")
    with pytest.raises(RunError, match=r"rule screen.*invalid partition specified: gpuu"):
        slurm.check_accepts(config(partition="gpuu"), ["screen"])


def test_a_controller_that_is_down_is_not_waited_for(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_TIMEOUT_SECONDS", 0.1)
    write_script(fake, "sbatch", "exec tail -f /dev/null")
    with pytest.raises(RunError, match="sbatch did not answer"):
        slurm.check_accepts(config(), ["screen"])


def test_jobs_of_other_runs_are_left_alone(fake: Path, tmp_path: Path) -> None:
    folder, said = RunFolder(tmp_path / "run"), list[str]()
    mine = f"{slurm.job_name(folder)}_1"
    (fake / "queue").write_text(f"5 {mine}\n6 {slurm.job_name(RunFolder(tmp_path))}_2\n7 bash\n8 {mine}\n")
    slurm.cancel_left(folder, said.append)
    assert (fake / "calls").read_text() == "scancel 5 8\n" and "5, 8" in said[0]


def test_the_words_of_a_scheduler_are_read_from_a_log_that_grows(tmp_path: Path) -> None:
    path, of_job = tmp_path / "snakemake.log", tmp_path / "7.log"
    of_job.write_text("Building DAG\nslurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.\n")
    text = OUT_OF_MEMORY.format(log=of_job)
    path.write_text(text)
    log = SnakemakeLog(path)
    assert list(log.failures()) == []  # it is of an earlier run
    with path.open("a") as file:
        found = []
        for half in (text[:300], text[300:] + REFUSED[:100], REFUSED[100:]):
            file.write(half)
            file.flush()
            found.append(list(log.failures()))
    assert found[0] == [] and len(found[1]) == len(found[2]) == 1
    (name, words), (other, refused) = found[1][0], found[2][0]
    assert name == "train/a" and "'OUT_OF_MEMORY'" in words and "oom_kill event" in words
    assert "DAG" not in words and "further" not in words
    assert other == "gather" and "invalid partition specified: gpuu" in refused
    assert log.last_lines() == REFUSED.splitlines()[-5:]


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ({}, "another Snakemake.*--unlock"),
        ({"host": "login2", "snakemake": 1}, "a run on login2.*--unlock"),
        ({"host": platform.node(), "snakemake": os.getpid()}, f"process {os.getpid()}"),
    ],
    ids=["nobody", "other-host", "this-process"],
)
def test_a_lock_of_snakemake_is_respected(tmp_path: Path, owner: dict[str, object], words: str) -> None:
    (tmp_path / LOCKS).mkdir(parents=True)
    (tmp_path / LOCKS / "0.input.lock").touch()
    write_json(tmp_path / OWNER, owner)
    with pytest.raises(RunError, match=words):
        cluster.prepare(RunFolder(tmp_path), config(), [], Executor(1, "other"), print)
    cluster.prepare(RunFolder(tmp_path), config(), [], Executor(1, "other", ("--unlock",)), print)


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None, reason="extra study is missing"
)
def test_a_run_goes_on_after_its_head_was_killed(fake: Path, tmp_path: Path) -> None:
    """Its jobs are cancelled, the lock of its Snakemake is lifted, and a failure is told."""
    from mofgap.configuration import dump

    (tmp_path / "run.yaml").write_text(dump(config()))
    os.mkfifo(fake / "submitted")
    (fake / "state").write_text("RUNNING")
    command = [sys.executable, "-m", "mofgap", "run", "run.yaml", "--executor", "slurm"]
    command += ["--", "--slurm-init-seconds-before-status-checks", "1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as head:
        job = (fake / "submitted").read_text().strip()  # waits for it
        head.kill()
    assert list((tmp_path / "runs/x" / LOCKS).iterdir())
    (fake / "submitted").unlink()
    (fake / "state").write_text("TIMEOUT")
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    calls = [line.split() for line in (fake / "calls").read_text().splitlines()]
    assert ["scancel", job] in calls
    assert [call[1] for call in calls] == ["--test-only", "--parsable", "--test-only", job, "--parsable"]
    assert again.returncode == 1
    assert f"earlier run had left: {job}" in again.stderr
    assert "screen/1-of-1: SLURM-job" in again.stderr and "'TIMEOUT'" in again.stderr
    assert "Traceback" not in again.stderr
