"""``mofgap run --executor slurm`` on a real SLURM: ``tests/slurm/start_slurm.sh`` starts one.

Run it with ``MOFGAP_SLURM=1 pytest tests/slurm -s``: it takes some ten minutes, since each job imports torch.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import mofgap

ROOT = Path(__file__).parents[2]
START = Path(__file__).with_name("start_slurm.sh")
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(mofgap.__file__).parents[1]),
    "MASTER_ADDR": "127.0.0.1",  # both nodes are this machine, and their names mean nothing to it
}
PASSES = 12
QUICKSTART = {"comparison.recipe.epochs": PASSES}
"""The quickstart, with passes enough to be killed between two of them."""
ONE_TRAINING = {
    **{f"comparison.splits.split.trainings.{name}": 0 for name in ("full", "scratch", "lora", "dropout")},
    **{"comparison.splits.split.trainings.balora": 1, "comparison.splits.split.trainings.ensemble": 0},
    **{"comparison.data.n_val": 30, "comparison.data.n_test": 30, "comparison.recipe.n_train": 40},
    **{"comparison.recipe.epochs": 2, "comparison.prediction.samples": [1, 2], "report": "false"},
}
"""Its smallest part: one training on few structures."""
MEMBER = "members/split/balora-seed0"


def reason_to_skip() -> str:
    if not os.environ.get("MOFGAP_SLURM"):
        return "set MOFGAP_SLURM=1 to install and start a SLURM of two nodes and run on it"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "starting SLURM needs root"
    try:
        import snakemake_executor_plugin_slurm  # noqa: F401
    except ImportError:
        return "snakemake-executor-plugin-slurm is not installed (extra study)"
    return ""


pytestmark = [
    pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "-"),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module", autouse=True)
def slurm() -> None:
    started = subprocess.run([START], capture_output=True, text=True, timeout=600)
    if started.returncode:
        pytest.skip(f"no SLURM could be started: {started.stderr.strip()}")


def start(run: Path, settings: Mapping[str, object], *arguments: str) -> subprocess.Popen[str]:
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "mofgap", "run", "configs/quickstart.yaml", "-o", str(run)]
    return subprocess.Popen(
        [*command, *changes, *arguments], cwd=ROOT, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE
    )


def finish(run: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for a run; returns what it said."""
    _, said = run.communicate(timeout=3000)
    tell(said)
    assert run.returncode == code, said
    return said


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def manifest(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "manifest.json").read_text())
    return content


def kill_between_passes(
    started: subprocess.Popen[str], run: Path, ways: Mapping[str, Callable[[str, str], None]]
) -> dict[str, str]:
    """Kill each training once it has made a pass, in whatever order they come; returns their SLURM jobs."""
    killed: dict[str, str] = {}
    while len(killed) < len(ways):
        # Number and comment, which names rule and item.
        squeue = ["squeue", "-h", "-t", "R", "-o", "%i %k"]
        jobs = subprocess.run(squeue, capture_output=True, text=True).stdout.splitlines()
        for member in ways.keys() - killed.keys():
            named = [line.split()[0] for line in jobs if "rule_train" in line and member in line]
            if named and (run / f"members/split/{member}/training/last.ckpt").exists():
                ways[member](member, named[0])
                killed[member] = named[0]
        with suppress(subprocess.TimeoutExpired):
            started.wait(0.1)
            raise AssertionError(f"the run ended before {ways.keys() - killed.keys()} could be killed")
    return killed


def cancel_job(member: str, job: str) -> None:
    """Let SLURM kill the job."""
    subprocess.run(["scancel", "--signal=KILL", "--full", job], check=True)


def kill_process(member: str, job: str) -> None:
    """Kill the process that trains, and nothing else, as the kernel does when memory runs out."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:5] == [b"-m", b"mofgap", b"stage", f"train/split/{member}".encode()]:
            os.kill(int(path.parent.name), signal.SIGKILL)
            return
    raise AssertionError(f"no process trains {member}")


def test_the_quickstart_killed_in_the_middle_is_resumed_to_the_same_result(tmp_path: Path) -> None:
    """One job is cancelled and the process of another is killed; both go on from their last pass."""
    alone, cluster = tmp_path / "alone", tmp_path / "cluster"
    finish(start(alone, QUICKSTART, "-j", "2"))
    first = start(cluster, QUICKSTART, "-j", "4", "--executor", "slurm")
    killed = kill_between_passes(first, cluster, {"full-seed0": kill_process, "balora-seed1": cancel_job})
    said = finish(first, 1)
    n_done = len(list(cluster.glob("stages/**/*.done")))
    for member in killed:
        assert f"train/split/{member}" in said
        history = pd.read_csv(cluster / f"members/split/{member}/training/metrics.csv")
        assert 0 < len(history) < PASSES
        tell(f"{member} was killed after pass {len(history)} of {PASSES}")
    finish(start(cluster, QUICKSTART, "-j", "4", "--executor", "slurm"))
    found = manifest(cluster)
    assert found["finished"] and n_done < len(found["stages"])
    jobs = {name: stage["slurm_job"] for name, stage in found["stages"].items()}
    assert len(set(jobs.values())) == len(jobs)
    assert all(jobs[f"train/split/{member}"] != job for member, job in killed.items())
    one, two = (pd.read_parquet(run / "predictions.parquet") for run in (alone, cluster))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    tell(f"killed with {n_done} of {len(jobs)} stages done; the same {len(two)} predictions, to the bit")


def lose_node(member: str, job: str, requeue: bool) -> None:
    """End all that runs for a job and the daemon of its node, as where the machine loses its power.

    SLURM notices by itself, but only after its ``SlurmdTimeout`` of five minutes; here it is told.
    """
    subprocess.run(["scontrol", "update", f"JobId={job}", f"Requeue={int(requeue)}"], check=True)
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    node = shown.partition("\n   NodeList=")[2].split()[0]
    daemon = Path(os.environ.get("MOFGAP_SLURM_STATE", "/var/tmp/mofgap-slurm"), f"slurmd.{node}.pid")
    os.kill(int(daemon.read_text()), signal.SIGKILL)
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_step = f"[{job}." in (path / "cmdline").read_text(errors="replace")
            if is_step or f"SLURM_JOB_ID={job}\0".encode() in (path / "environ").read_bytes():
                os.kill(int(path.name), signal.SIGKILL)
    subprocess.run(["scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=lost"], check=True)
    tell(f"{member}, job {job}: lost {node}")


@pytest.mark.parametrize("requeue", [True, False], ids=["requeued", "left"])
def test_a_training_on_a_node_that_is_lost_ends_with_the_same_result(requeue: bool, tmp_path: Path) -> None:
    """SLURM starts the job again on another node, some two minutes later; else the same command does."""
    settings = ONE_TRAINING | {"comparison.recipe.epochs": PASSES}
    alone, cluster = tmp_path / "alone", tmp_path / "cluster"
    finish(start(alone, settings, "-j", "2"))
    first = start(cluster, settings, "-j", "2", "--executor", "slurm")
    ways = {"balora-seed0": partial(lose_node, requeue=requeue)}
    try:
        (job,) = kill_between_passes(first, cluster, ways).values()
        said = finish(first, 0 if requeue else 1)
    finally:
        subprocess.run([START], check=True, capture_output=True, timeout=600)
    if not requeue:
        assert "train/split/balora-seed0" in said and job in said and "NODE_FAIL" in said
        finish(start(cluster, settings, "-j", "2", "--executor", "slurm"))
    assert manifest(cluster)["finished"]
    one, two = (safetensors_of(run) for run in (alone, cluster))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def two_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training is two processes of this machine, without SLURM."""
    run = tmp_path_factory.mktemp("here") / "run"
    finish(start(run, ONE_TRAINING | {"comparison.compute.devices": 2}, "-j", "2"))
    return run


@pytest.mark.parametrize(("nodes", "devices"), [(2, 1), (1, 2)])
def test_two_processes_train_the_same_member_here_and_on_nodes(
    two_here: Path, tmp_path: Path, nodes: int, devices: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_here, run)
    shutil.rmtree(run / MEMBER)
    there = ONE_TRAINING | {"comparison.compute.devices": devices, "comparison.compute.nodes": nodes}
    finish(start(run, there, "-j", "2", "--executor", "slurm"))
    one, two = (safetensors_of(each) for each in (two_here, run))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    stage = manifest(run)["stages"]["train/split/balora-seed0"]
    assert stage["processes"] == 2 and stage["cpu_seconds"] > 1 and stage["peak_memory_mb"] > 100
    asked = ["scontrol", "show", "job", stage["slurm_job"]]
    job = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert f"NumNodes={nodes}" in job
    tell(str([word for word in job.split() if word.startswith(("NodeList", "NumNodes", "NumTasks"))]))


def safetensors_of(run: Path) -> dict[str, torch.Tensor]:
    files = sorted((run / MEMBER).glob("**/*.safetensors"))
    return {f"{path.name} {name}": tensor for path in files for name, tensor in load_file(path).items()}
