from __future__ import annotations

import subprocess
import sys

import pytest

from mofgap.study import peak_memory
from mofgap.study.peak_memory import peak_memory_mb

SMALL = "from mofgap.study.engine.cost import measured; print(measured(lambda: None, 1)['peak_memory_mb'])"
LARGE = """
import subprocess, sys
from mofgap.study.peak_memory import peak_memory_mb
subprocess.run([sys.executable, "-c", "len(b'x' * 300_000_000)"], check=True)
print(peak_memory_mb())
"""


def printed(program: str) -> float:
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


def test_the_memory_of_the_process_that_started_this_one_does_not_count() -> None:
    held = b"x" * 300_000_000
    assert 1 < printed(SMALL) < 250 < len(held) / 2**20


def test_the_memory_of_a_child_counts() -> None:
    assert printed(LARGE) > 250


def test_where_linux_says_nothing_getrusage_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "STATUS", peak_memory.STATUS / "missing")
    assert peak_memory_mb() > 1
