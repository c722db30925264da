from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mofgap

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
