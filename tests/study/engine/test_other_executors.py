"""Other executors of Snakemake take the stages as they are."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mofgap
from mofgap.configuration import dump
from mofgap.shipped import shipped_folder
from mofgap.study.engine.config import JobResources, ResourcesConfig, RunConfig, ShardedScreening

PLUGIN = "snakemake-executor-plugin-cluster-generic"
SUBMIT = "qsub -pe smp {threads} -l h_vmem={resources.mem_mb}M -l h_rt={resources.runtime}:00"


@pytest.mark.skipif(
    importlib.util.find_spec(PLUGIN.replace("-", "_")) is None, reason=f"{PLUGIN} is not installed"
)
def test_a_cluster_with_any_command_to_submit_dry_runs(tmp_path: Path) -> None:
    example = str(min(shipped_folder("examples").glob("*.cif")))
    asked = ShardedScreening(inputs=(example,), shards=2)
    resources = ResourcesConfig(screen=JobResources(memory_mb=1234, minutes=77))
    (tmp_path / "run.yaml").write_text(dump(RunConfig("x", screening=asked, resources=resources)))
    command = [sys.executable, "-m", "mofgap", "run", "run.yaml", "--executor", "cluster-generic", "-j", "5"]
    environment = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
    done = subprocess.run(
        [*command, "--", "--dry-run", "--cluster-generic-submit-cmd", SUBMIT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "not done: list, screen/1-of-2, screen/2-of-2, gather, report/screening" in done.stdout
    assert not list((tmp_path / "runs/x").glob("shards/*"))
    said = done.stdout.replace(" ", "")
    assert "mem_mb=1234" in said and "runtime=77" in said
