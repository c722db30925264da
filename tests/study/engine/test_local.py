"""The pool of one machine, on stages that do next to nothing."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

import mofgap
from mofgap.study.engine.config import ResourcesConfig, RunConfig, ShardedScreening
from mofgap.study.engine.folder import RunFolder
from mofgap.study.engine.local import Pool
from mofgap.study.engine.stage import Stage

ROOT = str(Path(mofgap.__file__).parents[1])
CONFIG = RunConfig("x", screening=ShardedScreening(inputs=("none.cif",)))
WORK = """
import os, signal, subprocess, sys
from pathlib import Path

def write(config, run, *, name):
    (run / name).write_text(str(os.getpid()))

def count(config, run, *, name):
    sum(range(20_000_000))
    (run / name).touch()

def fail(config, run, *, name):
    print("first words")
    raise ValueError(f"{name}: the disk is full")

def break_down(config, run, *, name):
    raise TypeError(name)

def die(config, run, *, name):
    child = subprocess.Popen(["sleep", "1000"])
    (run / "child").write_text(str(child.pid))
    os.kill(os.getpid(), signal.SIGKILL)

def fail_once(config, run, *, name):
    if not (run / "tried").exists():
        (run / "tried").touch()
        raise ValueError("not yet")
    (run / name).touch()

def hang(config, run, *, name):
    child = subprocess.Popen(["sleep", "1000"])
    with open(run / "pids", "w") as pipe:
        pipe.write(f"{os.getpid()} {child.pid}")
    signal.pause()
"""
HEAD = """
import signal
import sys
from functools import partial
from pathlib import Path
from mofgap.study.engine.config import RunConfig, ShardedScreening
from mofgap.study.engine.folder import RunFolder
from mofgap.study.engine.local import Pool
from mofgap.study.engine.stage import Stage
import work

if __name__ == "__main__":
    # A shell may start what runs in the background without it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config = RunConfig("x", screening=ShardedScreening(inputs=("none.cif",)))
    stage = Stage("screen", partial(work.hang, name="a"), {}, ("mofgap.study.engine.sources",), ("a",))
    Pool(config, RunFolder(Path(sys.argv[1])), 1, 0, print).run([stage])
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What the stages do, in a module that their processes can import too."""
    (tmp_path / "work.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "work", raising=False)
    import work

    return work


def stage(do: Callable[..., None], item: str, *after: str, rule: str = "screen") -> Stage:
    modules = ("mofgap.study.engine.sources",)
    return Stage(rule, partial(do, name=item), {}, modules, (item,), item=item, after=after)


def has_ended(pid: int, within_seconds: float = 30.0) -> bool:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], within_seconds)[0])
    finally:
        os.close(process)


def carry_out(
    run: Path, *stages: Stage, jobs: int = 2, config: RunConfig = CONFIG
) -> tuple[list[str], list[str]]:
    """Names of the stages that ended, in order, and of those that failed."""
    ended: list[str] = []
    folder = RunFolder(run)
    return ended, Pool(config, folder, jobs, config.resources.retries, ended.append).run(stages)


def test_each_stage_runs_in_a_process_of_its_own_after_those_it_needs(work: ModuleType, run: Path) -> None:
    run.mkdir()
    chain = [stage(work.write, "a"), stage(work.write, "b", "screen/a"), stage(work.write, "c", "screen/b")]
    assert carry_out(run, *chain) == (["screen/a", "screen/b", "screen/c"], [])
    pids = {(run / name).read_text() for name in "abc"}
    assert len(pids) == 3 and str(os.getpid()) not in pids
    assert RunFolder(run).record("screen/c")["cost"]["threads"] == 1


def test_a_failing_stage_does_not_stop_those_that_do_not_need_it(work: ModuleType, run: Path) -> None:
    run.mkdir()
    stages = [
        stage(work.fail, "bad"),
        stage(work.write, "needs-it", "screen/bad"),
        stage(work.write, "next", "screen/needs-it"),
        stage(work.write, "other"),
        stage(work.write, "last", "screen/other"),
    ]
    ended, failed = carry_out(run, *stages, jobs=1)
    assert failed == ["screen/bad"] and set(ended) == {"screen/bad", "screen/other", "screen/last"}
    assert not (run / "needs-it").exists() and not (run / "next").exists()
    said = RunFolder(run).log("screen/bad").read_text().splitlines()
    assert said == ["first words", "mofgap: bad: the disk is full"]


@pytest.mark.parametrize(("name", "last"), [("break_down", "TypeError: it"), ("die", "was ended by SIGKILL")])
def test_the_log_says_how_a_process_ended(work: ModuleType, run: Path, name: str, last: str) -> None:
    run.mkdir()
    assert carry_out(run, stage(getattr(work, name), "it"))[1] == ["screen/it"]
    assert last in RunFolder(run).log("screen/it").read_text().splitlines()[-1]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd_open")
def test_what_a_process_started_ends_with_it(work: ModuleType, run: Path) -> None:
    run.mkdir()
    carry_out(run, stage(work.die, "it"))
    assert has_ended(int((run / "child").read_text()))


def test_a_stage_is_started_again_as_often_as_is_said(work: ModuleType, run: Path) -> None:
    run.mkdir()
    patient = replace(CONFIG, resources=ResourcesConfig(retries=1))
    assert carry_out(run, stage(work.fail_once, "a"), config=patient) == (["screen/a"], [])
    assert carry_out(run, stage(work.fail, "b"), config=patient)[1] == ["screen/b"]
    assert RunFolder(run).log("screen/b").read_text().count("disk is full") == 2


def test_stages_share_the_cores(work: ModuleType, run: Path) -> None:
    """One waits for the other where there is a core for one only."""
    run.mkdir()
    carry_out(run, stage(work.count, "a"), stage(work.count, "b"), jobs=1)
    first, second = (RunFolder(run).record(f"screen/{name}") for name in "ab")
    assert second["start"] >= first["end"]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfd_open")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_ends_leaves_no_process_behind(
    work: ModuleType, tmp_path: Path, run: Path, number: signal.Signals
) -> None:
    run.mkdir()
    os.mkfifo(run / "pids")
    (tmp_path / "head.py").write_text(HEAD)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    head = subprocess.Popen(
        [sys.executable, str(tmp_path / "head.py"), str(run)], env=environment, stderr=subprocess.DEVNULL
    )
    pids = [int(pid) for pid in (run / "pids").read_text().split()]  # once the stage is at work
    head.send_signal(number)
    head.wait(timeout=30)
    assert len(pids) == 2 and all(map(has_ended, pids))
