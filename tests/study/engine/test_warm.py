from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mofgap
from mofgap.study.engine import launch, warm

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd_open")
LAUNCHER = str(Path(launch.__file__))


def environment(socket: str) -> dict[str, str]:
    root = str(Path(mofgap.__file__).parents[1])
    return {**os.environ, launch.SOCKET: socket, "PYTHONPATH": root}


def start(socket: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, LAUNCHER, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(socket),
    )  # fmt: skip


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    with warm.warm_process(("mofgap.__main__",)) as path:
        yield path


def test_output_and_exit_code_come_back(socket: str) -> None:
    said, _ = start(socket, "--version").communicate(timeout=60)
    assert said.startswith("mofgap ")
    failed = start(socket, "screen", "x.cif", "--shard", "9/3", "-o", "x.csv")
    _, complaint = failed.communicate(timeout=60)
    assert failed.returncode == 2 and "9/3" in complaint


def test_the_environment_is_that_which_is_given() -> None:
    given = {**os.environ, "OMP_NUM_THREADS": "7"}
    with warm.warm_process(("mofgap.__main__",), given) as path:
        assert start(path, "--version").communicate(timeout=60)[0].startswith("mofgap ")  # it is there now
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        environments = [Path(f"/proc/{child}/environ").read_bytes() for child in children]
    assert any(b"OMP_NUM_THREADS=7" in each for each in environments)


def test_without_a_warm_process_the_command_runs_all_the_same() -> None:
    for path in ("", "/nonexistent/socket"):
        said, _ = start(path, "--version").communicate(timeout=60)
        assert said.startswith("mofgap ")


def test_jobs_end_with_the_warm_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list")
    with warm.warm_process(("mofgap.__main__",)) as path:
        job = start(path, "screen", f"@{tmp_path / 'list'}")  # waits for its list for ever
        time.sleep(1.0)
        assert job.poll() is None
    assert job.wait(timeout=30) != 0


def test_a_job_ends_with_who_waits_for_it(socket: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list")
    job = start(socket, "screen", f"@{tmp_path / 'list'}")
    time.sleep(1.0)
    job.send_signal(signal.SIGKILL)
    job.wait(timeout=30)
    # A FIFO without a reader cannot be opened for writing: the job that read it is gone.
    for _ in range(200):
        try:
            os.close(os.open(tmp_path / "list", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return
        time.sleep(0.1)
    raise AssertionError("the job went on")
