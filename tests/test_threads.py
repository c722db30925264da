from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mofgap import threads
from mofgap.threads import cgroup_cores, usable_cores, use_cores, wait_passively


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*threads.WAITING, threads.BLAS, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)


def cgroup(tmp_path: Path, line: str, files: dict[str, str]) -> tuple[Path, Path]:
    groups, mount = tmp_path / "cgroup", tmp_path / "mount"
    groups.write_text(f"{line}\n")
    for name, text in files.items():
        (mount / name).parent.mkdir(parents=True, exist_ok=True)
        (mount / name).write_text(text)
    return groups, mount


@pytest.mark.parametrize(
    ("line", "files", "cores"),
    [
        ("0::/job", {"job/cpu.max": "250000 100000\n"}, 2),
        ("0::/job/step", {"job/cpu.max": "300000 100000\n", "job/step/cpu.max": "max 100000\n"}, 3),
        ("0::/job", {"job/cpu.max": "50000 100000\n"}, 1),
        ("0::/../elsewhere", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/job", {"job/cpu.max": "max 100000\n"}, math.inf),
        ("4:cpu,cpuacct:/job", {"cpu,cpuacct/job/cpu.cfs_quota_us": "200000\n",
                                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n"}, 2),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ("3:cpuset:/job", {"cpuset/job/cpu.max": "100000 100000\n"}, math.inf),
    ],
)  # fmt: skip
def test_quota_of_a_cgroup_bounds_the_cores(
    tmp_path: Path, line: str, files: dict[str, str], cores: float
) -> None:
    assert cgroup_cores(*cgroup(tmp_path, line, files)) == cores


def test_usable_cores_are_those_of_the_narrowest_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cgroup_cores", lambda: math.inf)
    assert usable_cores() == 8
    monkeypatch.setattr(threads, "cgroup_cores", lambda: 3)
    assert usable_cores() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert usable_cores() == 5


def test_threads_are_shared_among_processes_but_a_users_number_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 6)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    use_cores(processes=4)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    use_cores()
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("name", threads.WAITING)
def test_how_a_user_lets_threads_wait_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "17")
    wait_passively()
    assert [os.environ.get(each) for each in threads.WAITING if each != name] == [None, None]


def test_the_program_sets_the_wait_policy_before_torch_is_loaded() -> None:
    names = ["OMP_WAIT_POLICY", threads.BLAS]
    program = (
        f"import os, sys, mofgap.__main__ as _\nprint(*map(os.environ.get, {names}), 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in threads.WAITING}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["passive", "1", "False"], done.stderr
