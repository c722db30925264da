"""Stages as jobs of a cluster: driving Snakemake, and following what it does."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from mofgap.study.engine import slurm
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import LOGS, STAGES, RunError, RunFolder
from mofgap.study.engine.local import ENVIRONMENT
from mofgap.study.engine.snakemake_log import SnakemakeLog
from mofgap.whole_file import read_json, write_json

SNAKEFILE = Path(__file__).with_name("Snakefile")
LOG = f"{LOGS}/snakemake.log"
LOCKS = ".snakemake/locks"
OWNER = f"{STAGES}/scheduler.json"
"""Where Snakemake was started last, and its process."""

UNLOCK = "--unlock"
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
        """Arguments of Snakemake's command line."""
        given = ["--executor", self.name, "--jobs", str(self.jobs)]
        return [*given, *(_slurm_options() if self.name == "slurm" else ()), *self.options]


def _slurm_options() -> list[str]:
    """Options to ask SLURM for the state of jobs, with or without its accounting of finished jobs."""
    options = ["--slurm-init-seconds-before-status-checks", str(_SLURM_POLL_SECONDS)]
    try:
        subprocess.run(["sacct", "--noheader"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        options += ["--slurm-status-command", "squeue"]
    return options


def check_installed(executor: Executor) -> None:
    """Refuse a run for which a package is missing, before any work begins.

    Raises:
        RunError: If the package Snakemake or the plugin of ``executor`` is not installed.
    """
    if importlib.util.find_spec("snakemake") is None:
        raise RunError(MISSING)
    plugin = f"snakemake-executor-plugin-{executor.name}"
    if importlib.util.find_spec(plugin.replace("-", "_")) is None:
        extra = "'mofgap[study]'" if executor.name == "slurm" else plugin
        raise RunError(f"the executor {executor.name} needs its plugin: pip install {extra}")


def prepare(
    folder: RunFolder, config: RunConfig, names: Sequence[str], executor: Executor, say: Callable[[str], None]
) -> None:
    """Make sure that a run can be handed to a scheduler, while this process holds the lock of the run.

    Raises:
        RunError: If the scheduler refuses the jobs of the run, or another Snakemake may be using the folder.
    """
    if executor.name == "slurm":
        slurm.check_accepts(config, dict.fromkeys(name.partition("/")[0] for name in names))
        slurm.cancel_left(folder, say)
    if UNLOCK not in executor.options:
        _take_over(folder)


def _take_over(folder: RunFolder) -> None:
    """Delete the lock of a Snakemake that was killed together with the run that started it.

    Raises:
        RunError: If nothing shows that the Snakemake of the lock was killed.
    """
    locks, owner = folder.path / LOCKS, read_json(folder.path / OWNER)
    if not locks.is_dir() or not any(locks.iterdir()):
        return
    if owner.get("host") != platform.node():
        who = f"a run on {owner['host']}" if "host" in owner else "another Snakemake"
        cure = f"once nothing is at work there, add -- {UNLOCK} to the command, and start it again without"
        raise RunError(f"{folder.path} is locked by {who}: {cure}")
    if _is_alive(owner.get("snakemake", 0)):
        raise RunError(f"Snakemake of an earlier run is still at work: wait for process {owner['snakemake']}")
    shutil.rmtree(locks)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process > 0 and not _has_ended(process)


def _has_ended(process: int) -> bool:
    """Whether a process has ended and only waits for its parent to read its exit code."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] == "Z"


def execute(
    folder: RunFolder,
    names: Sequence[str],
    executor: Executor,
    retries: int,
    ended: Callable[[str], None],
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, str]:
    """Let Snakemake run what is not done.

    Args:
        folder: With configuration and requests written; this process holds the lock of the run.
        names: Names of the stages that are not done.
        executor: Where jobs run.
        retries: How often a job that failed is started again.
        ended: Called with the name of each stage that is done.
        say: Called with what the scheduler says of a failed job, as soon as it does.

    Returns:
        The stages that failed, with what the scheduler said of each; none where Snakemake says that nothing
        failed.

    Raises:
        RunError: If Snakemake ended before any stage began.
    """
    # Snakemake reads values as YAML, in which a path may say anything.
    paths = (f"run={quote(str(folder.path))}", f"seen_from={quote(str(Path.cwd()))}")
    own = ("--slurm-jobname-prefix", slurm.job_name(folder)) if executor.name == "slurm" else ()
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--directory", str(folder.path)),
        # What is stale is decided by requests and hashes of our own, which survive any kill.
        *("--rerun-triggers", "mtime", "--rerun-incomplete", "--keep-going"),
        *("--retries", str(retries), "--config", *paths),
        *own,
        *executor.arguments,
    ]
    environment = {**ENVIRONMENT, **os.environ, "PYTHONPATH": _python_path()}
    log = SnakemakeLog(folder.path / LOG)
    log.path.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        folder.log(name).unlink(missing_ok=True)  # a job that a scheduler refuses writes none
    write_json(folder.path / OWNER, {"host": platform.node()})
    with log.path.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=output, env=environment, preexec_fn=_end_with_parent
        )
        write_json(folder.path / OWNER, {"host": platform.node(), "snakemake": process.pid})
        followed = _Followed(folder, log, list(names), ended, say)
        followed.to_the_end(process)
    if not process.returncode:
        return {}
    begun = {name: "" for name in followed.waiting if folder.log(name).exists()}
    if not begun and not followed.failed:
        said = "\n  ".join([f"Snakemake ended with exit code {process.returncode}:", *log.last_lines()])
        raise RunError(said)
    return begun | followed.failed


@dataclass
class _Followed:
    """Stages that Snakemake works on.

    Attributes:
        waiting: Those that are not done.
        failed: What the scheduler said of those whose jobs failed.
    """

    folder: RunFolder
    log: SnakemakeLog
    waiting: list[str]
    ended: Callable[[str], None]
    say: Callable[[str], None]
    failed: dict[str, str] = field(default_factory=dict)

    def to_the_end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for Snakemake, and print what is done and what failed."""
        running = True
        try:
            while running:
                running = process.poll() is None
                self.look()
                time.sleep(_POLL_SECONDS if running else 0)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise

    def look(self) -> None:
        """Print what is new."""
        for name in [name for name in self.waiting if self.folder.done(name).exists()]:
            self.waiting.remove(name)
            self.failed.pop(name, None)  # a later try was better
            self.ended(name)
        for name, words in self.log.failures():
            self.failed[name] = words
            self.say(f"{name}: {words}")


def _python_path() -> str:
    """PYTHONPATH by which jobs find the package that this process runs, installed or not."""
    root = str(Path(__file__).parents[3])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))


def _end_with_parent() -> None:
    """Let Linux end this process with the run that started it. Other systems let it finish its jobs.

    A signal to end would let Snakemake wait for its jobs while a second one starts.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
