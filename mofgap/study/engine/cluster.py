"""Stages as jobs of a cluster: driving Snakemake, and following what it does."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mofgap.study.engine.folder import LOGS, RunError, RunFolder
from mofgap.study.engine.local import ENVIRONMENT

SNAKEFILE = Path(__file__).with_name("Snakefile")
LOG = f"{LOGS}/snakemake.log"
MISSING = "this needs Snakemake 9: pip install 'mofgap[study]'"
_POLL_SECONDS = 0.25
_SLURM_POLL_SECONDS = 10
_PR_SET_PDEATHSIG = 1


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
    """Refuse a run for which a package is missing, before any work begins.

    Raises:
        RunError: The package Snakemake, or the plugin of ``executor``, is not installed.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise RunError(MISSING)
    plugin = f"snakemake-executor-plugin-{executor.name}"
    if importlib.util.find_spec(plugin.replace("-", "_")) is None:
        extra = "'mofgap[study]'" if executor.name == "slurm" else plugin
        raise RunError(f"the executor {executor.name} needs its plugin: pip install {extra}")


def execute(
    folder: RunFolder,
    names: Sequence[str],
    executor: Executor,
    retries: int,
    ended: Callable[[str], None],
) -> list[str]:
    """Let Snakemake run what is not done.

    Args:
        folder: With configuration and requests written.
        names: Of the stages that are not done.
        executor: Where jobs run.
        retries: How often a job that failed is started again.
        ended: Told the name of each stage that is done.

    Returns:
        Names of the stages that began and are not done, or of all that are not where none began; none where
        Snakemake says that nothing failed.
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
    environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": _python_path()}
    log = folder.path / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        folder.log(name).unlink(missing_ok=True)  # a job that a scheduler refuses writes none
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=output, env=environment, preexec_fn=_end_with_parent
        )
        waiting = _follow(process, folder, names, ended)
    if not process.returncode:
        return []
    begun = [name for name in waiting if folder.log(name).exists()]
    return begun or waiting


def _follow(
    process: subprocess.Popen[bytes], folder: RunFolder, names: Sequence[str], ended: Callable[[str], None]
) -> list[str]:
    """Wait for Snakemake, and say which stages are done meanwhile; returns the others."""
    waiting, running = list(names), True
    try:
        while running:
            running = process.poll() is None
            for name in [name for name in waiting if folder.done(name).exists()]:
                waiting.remove(name)
                ended(name)
            time.sleep(_POLL_SECONDS if running else 0)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    return waiting


def _python_path() -> str:
    """Jobs find the package that this process runs, installed or not."""
    root = str(Path(__file__).parents[3])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))


def _end_with_parent() -> None:
    """Let Linux end this process with the run that started it; elsewhere it finishes its jobs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
