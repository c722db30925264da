"""SLURM: whether it takes the jobs of a run, and what to do about jobs that a killed run left behind."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence

from mofgap.configuration import digest
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunError, RunFolder

_TIMEOUT_SECONDS = 60
_CANCEL_SECONDS = 120
_POLL_SECONDS = 1.0


def check_accepts(config: RunConfig, rules: Iterable[str]) -> None:
    """Ask SLURM whether it would accept a job of each rule, without submitting any.

    Raises:
        RunError: If there is no ``sbatch``, no controller answers, or the controller refuses a job.
    """
    asked: set[tuple[str, ...]] = set()
    for rule in rules:
        request = tuple(_request(config, rule))
        if request not in asked:
            command = ["sbatch", "--test-only", *request, "--wrap=true"]
            _ask(command, f"SLURM does not take a job of the rule {rule} (see resources)")
            asked.add(request)


def job_name(folder: RunFolder) -> str:
    """The prefix of the names of all jobs of a run folder."""
    return f"mofgap-{digest(str(folder.path))[:16]}"


def cancel_left(folder: RunFolder, say: Callable[[str], None]) -> None:
    """Cancel the jobs that an earlier, killed run of a folder left, and wait until they are gone.

    Trainings and shards go on from what they have written.

    Raises:
        RunError: If SLURM does not answer, or does not cancel a job.
    """
    left = _left(folder)
    if not left:
        return
    _ask(["scancel", *left], "SLURM does not cancel jobs that an earlier run left")
    say(f"cancelled SLURM jobs that an earlier run had left: {', '.join(left)}")
    begun = time.monotonic()
    while left := _left(folder):
        if time.monotonic() - begun > _CANCEL_SECONDS:
            raise RunError(f"SLURM jobs of an earlier run do not end: scancel {' '.join(left)}")
        time.sleep(_POLL_SECONDS)


def _left(folder: RunFolder) -> list[str]:
    listed = _ask(["squeue", "--me", "--noheader", "--format=%i %j"], "SLURM does not list its jobs")
    jobs = (line.split() for line in listed.splitlines())
    return [words[0] for words in jobs if len(words) == 2 and words[1].startswith(job_name(folder))]


def _request(config: RunConfig, rule: str) -> Iterable[str]:
    """Resources that a job of a rule asks for, as in the Snakefile."""
    mine, (nodes, processes) = config.resources.of(rule), config.nodes_and_processes(rule)
    yield from (f"--nodes={nodes}", f"--ntasks-per-node={processes}", f"--cpus-per-task={mine.cpus}")
    yield from (f"--mem={mine.memory_mb}", f"--time={mine.minutes}")
    if mine.gpus:
        yield f"--gres=gpu:{mine.gpus}"
    for name in ("partition", "account"):
        if (value := getattr(config.resources, name)) is not None:
            yield f"--{name}={value}"


def _ask(command: Sequence[str], trouble: str) -> str:
    """The output of a command of SLURM.

    Raises:
        RunError: If the command does not exist, does not answer in time, or fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    except FileNotFoundError as error:
        where = "start the run on a login node of the cluster, or leave out --executor slurm"
        raise RunError(f"there is no {command[0]} on this machine: {where}") from error
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{command[0]} did not answer within {_TIMEOUT_SECONDS} s: is SLURM down?") from error
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise RunError(f"{trouble}: {words}")
    return done.stdout
