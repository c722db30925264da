"""``mofgap run --executor slurm`` on a real SLURM: ``tests/slurm/start_slurm.sh`` starts one.

Run it with ``MOFGAP_SLURM=1 pytest tests/slurm``: it takes minutes, since SLURM is asked for news every 10 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mofgap

START = Path(__file__).with_name("start_slurm.sh")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
KILLED = "train/split/balora-seed0"


def reason_to_skip() -> str:
    if not os.environ.get("MOFGAP_SLURM"):
        return "set MOFGAP_SLURM=1 to install and start a SLURM of one node and run on it"
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "starting SLURM needs root"
    try:
        import snakemake_executor_plugin_slurm  # noqa: F401
    except ImportError:
        return "snakemake-executor-plugin-slurm is not installed (extra workflow)"
    return ""


pytestmark = [
    pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "-"),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module", autouse=True)
def slurm() -> None:
    started = subprocess.run([START], capture_output=True, text=True, timeout=600)
    if started.returncode:
        pytest.skip(f"no SLURM could be started: {started.stderr.strip()}")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_cifs: Callable[[Path, int], list[Path]]) -> Path:
    """A working directory with 90 labelled zinc formates, and a comparison of two trainings."""
    folder = tmp_path_factory.mktemp("place")
    write_cifs(folder / "cifs", 90)
    gaps = np.random.default_rng(0).uniform(1, 3, 90)
    parts = ["train"] * 50 + ["val"] * 20 + ["test"] * 20
    labels = pd.DataFrame({"structure_id": [f"s{i}" for i in range(90)], "gap_ev": gaps, "split": parts})
    labels.to_csv(folder / "labels.csv", index=False)
    trainings = {"full": 0, "scratch": 0, "lora": 1, "balora": 1, "dropout": 0, "ensemble": 0}
    comparison = {
        "data": {"table": "labels.csv", "cifs": "cifs"},
        "splits": {"split": {"trainings": trainings}},
        "recipe": {"epochs": 300, "rank": 4, "head_hidden": 16, "blocks": [4]},
        "prediction": {"samples": [1, 2], "n_val": None},
        "judgement": {"n_draws": 20},
        "compute": {"device": "cpu"},
    }
    (folder / "run.yaml").write_text(json.dumps({"name": "small", "comparison": comparison}))
    return folder


def start(place: Path, run: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mofgap", "run", "run.yaml", "-o", run, "-j", "2", *arguments]
    return subprocess.Popen(command, cwd=place, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)


def cancel_in_the_middle(run: Path) -> str:
    """Kill the job of a training after its first checkpoint; returns its number."""
    for _ in range(3000):
        squeue = ["squeue", "-h", "-t", "R", "-o", "%i %k"]  # number and comment, which names rule and item
        jobs = subprocess.run(squeue, capture_output=True, text=True).stdout.splitlines()
        named = [line.split()[0] for line in jobs if "rule_train" in line and "balora-seed0" in line]
        if named and (run / "members/split/balora-seed0/training/last.ckpt").exists():
            subprocess.run(["scancel", "--signal=KILL", "--full", named[0]], check=True)
            return named[0]
        time.sleep(0.2)
    raise AssertionError("the training never began")


def test_a_job_killed_in_the_middle_is_resumed_to_the_same_result(place: Path) -> None:
    local = start(place, "local")
    assert local.wait(900) == 0, local.stderr and local.stderr.read()
    cluster = start(place, "cluster", "--executor", "slurm")
    killed = cancel_in_the_middle(place / "cluster")
    assert cluster.wait(900) == 1
    assert cluster.stderr is not None and f"not done: {KILLED}" in cluster.stderr.read()
    history = place / "cluster/members/split/balora-seed0/training/metrics.csv"
    n_epochs = len(history.read_text().splitlines()) - 1
    assert 0 < n_epochs < 300
    again = start(place, "cluster", "--executor", "slurm")
    assert again.wait(900) == 0, again.stderr and again.stderr.read()
    manifest = json.loads((place / "cluster/manifest.json").read_text())
    assert manifest["finished"]
    jobs = {name: stage["slurm_job"] for name, stage in manifest["stages"].items()}
    assert len(set(jobs.values())) == len(jobs) and jobs[KILLED] != killed
    one, two = (pd.read_parquet(place / run / "predictions.parquet") for run in ("local", "cluster"))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
