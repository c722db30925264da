"""Driving Snakemake: what it is asked, and what is said while it works."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mofgap.study.engine.comparison import MALLOC
from mofgap.study.engine.folder import LOGS, RunError, RunFolder
from mofgap.study.engine.launch import SOCKET
from mofgap.study.engine.stage import Stage
from mofgap.study.engine.warm import warm_process

SNAKEFILE = Path(__file__).with_name("Snakefile")
MISSING = "this needs Snakemake 9: pip install 'mofgap[study]'"
_POLL_SECONDS = 0.25
_SLURM_POLL_SECONDS = 10
_PR_SET_PDEATHSIG = 1

ENVIRONMENT = {
    # One thread for each job unless its resources say more: sums on other numbers of threads differ in
    # their last digits. A stage sets its own number.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    **MALLOC,
}


@dataclass(frozen=True)
class Executor:
    """Where jobs run.

    Attributes:
        jobs: How many at a time; on this machine, how many cores they share.
        name: ``local``, ``slurm``, or another executor plugin of Snakemake.
        options: More of Snakemake's own options.
    """

    jobs: int
    name: str = "local"
    options: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        """Of Snakemake's command line."""
        if self.name == "local":
            return ["--cores", str(self.jobs), *self.options]
        given = ["--executor", self.name, "--jobs", str(self.jobs)]
        return [*given, *(_slurm_options() if self.name == "slurm" else ()), *self.options]


def _slurm_options() -> list[str]:
    """How to ask SLURM for the state of jobs: it keeps accounts of finished ones in some places only."""
    options = ["--slurm-init-seconds-before-status-checks", str(_SLURM_POLL_SECONDS)]
    try:
        accounts = subprocess.run(["sacct", "--noheader"], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return [*options, "--slurm-status-command", "squeue"]
    return options if accounts.returncode == 0 else [*options, "--slurm-status-command", "squeue"]


def check_installed(executor: Executor) -> None:
    """Refuse before any work what would fail for want of a package.

    Raises:
        RunError: Snakemake, or the executor's plugin, is not installed.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise RunError(MISSING)
    plugin = f"snakemake-executor-plugin-{executor.name}"
    if executor.name != "local" and importlib.util.find_spec(plugin.replace("-", "_")) is None:
        extra = "'mofgap[study]'" if executor.name == "slurm" else plugin
        raise RunError(f"the executor {executor.name} needs its plugin: pip install {extra}")


def execute(
    folder: RunFolder,
    stages: Sequence[Stage],
    executor: Executor,
    say: Callable[[str], None],
    *,
    retries: int = 0,
) -> list[str]:
    """Let Snakemake run what is not done.

    Args:
        folder: With configuration and requests written.
        stages: All stages of the run.
        executor: Where jobs run.
        say: Told of each stage that ends.
        retries: How often a job that failed is started again.

    Returns:
        Names of the stages that are not done.
    """
    # Snakemake reads values as YAML, in which a path may say anything.
    paths = (f"run={quote(str(folder.path))}", f"seen_from={quote(str(Path.cwd()))}")
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(folder.path)),
        # What is stale is decided by requests, hashes and locks of our own, which survive any kill.
        *("--rerun-triggers", "mtime", "--rerun-incomplete", "--nolock", "--keep-going"),
        *("--retries", str(retries), "--config", *paths),
        *executor.arguments,
    ]
    log = folder.path / LOGS / "snakemake.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": _python_path()}
        if executor.name == "local":
            environment[SOCKET] = stack.enter_context(warm_process(environment=environment))
        output = stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
        _follow(process, folder, stages, say)
    return [stage.name for stage in stages if not folder.done(stage.name).exists()]


def _follow(
    process: subprocess.Popen[bytes], folder: RunFolder, stages: Sequence[Stage], say: Callable[[str], None]
) -> None:
    """Wait for Snakemake and say which stages have ended meanwhile."""
    waiting = [stage.name for stage in stages if not folder.done(stage.name).exists()]
    running = True
    try:
        while running:
            running = process.poll() is None
            ended = [name for name in waiting if folder.done(name).exists()]
            for name in ended:
                waiting.remove(name)
                cost = folder.record(name).get("cost", {})
                place = f"[{len(stages) - len(waiting)}/{len(stages)}]"
                say(f"{place} {name}: {cost.get('seconds', 0):.1f} s, {cost.get('peak_memory_mb', 0):.0f} MB")
            time.sleep(_POLL_SECONDS if running else 0)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise


def failures(folder: RunFolder, unfinished: Sequence[str], n_lines: int = 5) -> list[str]:
    """For each stage that began and did not end, the last lines of its log."""
    found = []
    for name in unfinished:
        log = folder.log(name)
        if not log.exists() or folder.record(name).get("end"):
            continue
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        found.append(
            "\n  ".join([f"{name} failed, see {log}:", *(lines[-n_lines:] or ["(it said nothing)"])])
        )
    return found


def _python_path() -> str:
    """Jobs find the package that this process runs, installed or not."""
    root = str(Path(__file__).parents[3])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))


def _end_with_parent() -> None:
    """Let Linux end this process with the run that started it; elsewhere it finishes its jobs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
