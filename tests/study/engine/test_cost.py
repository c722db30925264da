from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import mofgap
from mofgap.study.engine import cost as costs
from mofgap.study.engine.cost import measured, total

THREADS = """
from mofgap.study.engine.cost import measured
cost = measured(lambda: print(__import__("torch").get_num_threads()), 1)
assert cost["cpu_seconds"] > 0 and cost["threads"] == 1
"""


def test_arithmetic_runs_on_the_threads_that_are_given() -> None:
    """Snakemake sets these variables to the cores of all processes of a job; torch takes MKL's number."""
    more = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")
    environment = {**os.environ, **more, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


def test_what_a_job_cost_is_kept_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed says nothing at its end."""
    monkeypatch.setattr(costs, "KEPT_EVERY_SECONDS", 0.001)
    kept: list[dict[str, Any]] = []
    enough = Event()

    def keep(cost: dict[str, Any]) -> None:
        kept.append(cost)
        if len(kept) > 3:
            enough.set()

    found = measured(lambda: None if enough.wait(30) else pytest.fail("nothing was kept"), 1, keep)
    assert found["seconds"] >= kept[2]["seconds"] > kept[0]["seconds"]


def test_what_a_job_cost_is_kept_where_it_fails() -> None:
    kept: list[dict[str, Any]] = []
    with pytest.raises(ZeroDivisionError):
        measured(_failing, 1, kept.append)
    assert kept[-1]["peak_memory_mb"] > 1


def _failing() -> None:
    raise ZeroDivisionError


def test_starts_are_added_up() -> None:
    one = {"seconds": 3.0, "cpu_seconds": 2.0, "peak_memory_mb": 9.0, "host": "a"}
    two = {"seconds": 1.0, "cpu_seconds": 0.5, "peak_memory_mb": 7.0, "host": "b"}
    known = {"seconds": 4.0, "cpu_seconds": 2.5, "peak_memory_mb": 9.0, "host": "b", "starts": 2}
    assert total([one, two]) == known
