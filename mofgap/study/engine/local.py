"""The pool of one machine: each stage in a process of its own, as soon as what it needs is done.

Processes are forked from a server that has imported what the stages import, so that none of them waits for
that. Each leads a process group, which ends with the run that started it, whatever ended that one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread

from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunFolder
from mofgap.study.engine.ranks import stage_command
from mofgap.study.engine.stage import Stage, run_stage

ENVIRONMENT = {
    # One thread for each process unless its resources say more: sums on other numbers of threads differ in
    # their last digits. A stage sets its own number.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # torch frees and asks for large blocks all the time; giving each back to the system costs a third of the
    # time of a training on a CPU.
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    # pyarrow's memory pool starts a thread when it is imported, which a server that forks may not have.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


@dataclass
class Pool:
    """The processes of a run on this machine.

    Args:
        config: Config of the run.
        folder: With configuration and requests written.
        jobs: How many cores the processes share.
        retries: How often a stage that failed is started again.
        ended: Called with the name of each stage that ended, done or failed.
    """

    config: RunConfig
    folder: RunFolder
    jobs: int
    retries: int
    ended: Callable[[str], None]

    def run(self, stages: Iterable[Stage]) -> list[str]:
        """Run stages, except those that need a failed one.

        Args:
            stages: Those that are not done; what others they need is done.

        Returns:
            Names of those that failed.
        """
        wanted = {stage.name: stage for stage in stages}
        needs = {name: [each for each in stage.after if each in wanted] for name, stage in wanted.items()}
        order, places = TopologicalSorter(needs), {name: i for i, name in enumerate(wanted)}
        order.prepare()
        waiting: list[str] = []
        running: dict[str, BaseProcess] = {}
        tries = dict.fromkeys(wanted, 0)
        failed: list[str] = []
        with _environment(ENVIRONMENT), _ending(running):
            context = _context(wanted.values())
            while order.is_active():
                waiting = sorted([*waiting, *order.get_ready()], key=places.__getitem__)
                for name in [*waiting]:
                    if not running or self._cores(name) <= self.jobs - sum(map(self._cores, running)):
                        waiting.remove(name)
                        tries[name] += 1
                        running[name] = self._start(context, wanted[name], first=tries[name] == 1)
                if not running:  # the others need what failed
                    break
                for name in _ended(running):
                    code = self._code(name, running.pop(name))
                    if code and tries[name] <= self.retries:
                        waiting.append(name)
                        continue
                    if code:
                        failed.append(name)
                    else:
                        order.done(name)
                    self.ended(name)
        return failed

    def _cores(self, name: str) -> int:
        """Cores of a stage, at most those that there are."""
        return min(self.jobs, self.config.cores(name.partition("/")[0]))

    def _start(self, context: BaseContext, stage: Stage, *, first: bool) -> BaseProcess:
        log = self.folder.log(stage.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if first:
            log.unlink(missing_ok=True)
        arguments = (stage, self.config, self.folder, Path.cwd())
        process: BaseProcess = context.Process(target=_work, args=arguments)  # type: ignore[attr-defined]
        process.start()
        return process

    def _code(self, name: str, process: BaseProcess) -> int:
        """The exit code of a process that ended; the log says so where a signal ended it."""
        code = process.exitcode or 0
        if code < 0:
            with self.folder.log(name).open("a", encoding="utf-8") as log:
                log.write(f"mofgap: the process was ended by {signal.Signals(-code).name}: out of memory?\n")
        return code


def _context(stages: Iterable[Stage]) -> BaseContext:
    """How processes start: forked from a server that has imported what the stages import."""
    context = multiprocessing.get_context("forkserver")
    modules = dict.fromkeys(module for stage in stages for module in stage.modules)
    context.set_forkserver_preload(["mofgap.__main__", "pyarrow.dataset", "numba", *modules])
    return context


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, if they are not set, for processes that start inside."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _ended(running: Mapping[str, BaseProcess]) -> list[str]:
    """Wait until some process has ended; names of those that have."""
    names = {process.sentinel: name for name, process in running.items()}
    ended = [names[sentinel] for sentinel in wait(list(names)) if isinstance(sentinel, int)]
    for name in ended:
        _end(running[name])
    return ended


@contextmanager
def _ending(running: Mapping[str, BaseProcess]) -> Iterator[None]:
    """End all processes that still run, and those that they started."""
    try:
        yield
    finally:
        for process in running.values():
            process.kill()
            _end(process)


def _end(process: BaseProcess) -> None:
    """End the processes that an ended process started."""
    if process.pid is not None:
        with suppress(ProcessLookupError):  # nothing is left of its group, or it does not lead it yet
            os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _work(stage: Stage, config: RunConfig, folder: RunFolder, seen_from: Path) -> None:
    """What a process does: one stage."""
    os.setpgid(0, 0)  # so that Ctrl-C is for the run to handle
    Thread(target=_end_with_run, daemon=True).start()
    log = os.open(folder.log(stage.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.chdir(seen_from)
    if config.nodes_and_processes(stage.rule) != (1, 1):
        # Lightning starts the others of several processes by the command line of the first.
        sys.exit(subprocess.run(stage_command(stage.name, folder), check=False).returncode)
    try:
        run_stage(stage, config, folder, threads=config.resources.of(stage.rule).cpus)
    except (ValueError, OSError) as error:
        sys.exit(f"mofgap: {error}")


def _end_with_run() -> None:
    """End this process and its group as soon as the run is gone."""
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os.killpg(0, signal.SIGKILL)
