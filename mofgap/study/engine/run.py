"""A whole run: what has to be done, doing it, and keeping account."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any

from mofgap.screening.origin import SUFFIX
from mofgap.study.engine import cluster, local
from mofgap.study.engine.cluster import Executor
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunError, RunFolder, fingerprint
from mofgap.study.engine.manifest import write_manifest
from mofgap.study.engine.plan import plan
from mofgap.study.engine.ranks import JOB
from mofgap.study.engine.sources import code_digest
from mofgap.study.engine.stage import ANEW, NOTE, Stage, few, reason_to_run
from mofgap.study.engine.training import made_by

N_LOG_LINES = 5
"""Lines shown of the log of a stage that failed."""


@dataclass(frozen=True)
class Run:
    """A run in its folder, with all its stages.

    Attributes:
        config: What to do.
        path: Run folder, absolute; it need not be there yet.
        command: What was typed, for the manifest.
        screening: Whether the stages of the screening are run too.
    """

    config: RunConfig
    path: Path
    command: str = ""
    screening: bool = True

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(self.path)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """All stages of the run, in order."""
        return plan(self.config, self.path, screening=self.screening)

    @property
    def is_finished(self) -> bool:
        """Whether every stage has been done."""
        return all(self.folder.done(stage.name).exists() for stage in self.stages)

    def reasons(self) -> dict[str, str]:
        """The reason for each stage that has to run."""
        return self._reasons(self._requests())

    def _requests(self) -> dict[str, dict[str, Any]]:
        """The request of each stage. An input of several stages is read once."""
        look, code = cache(fingerprint), cache(code_digest)
        return {stage.name: stage.request(look, code) for stage in self.stages}

    def _reasons(self, requests: Mapping[str, dict[str, Any]]) -> dict[str, str]:
        found: dict[str, str] = {}
        for stage in self.stages:
            reason = reason_to_run(stage, self.folder, requests[stage.name])
            if not reason and (before := next((name for name in stage.after if name in found), None)):
                reason = f"if {before} changes"
            if reason:
                found[stage.name] = reason
        return found

    def described(self) -> Iterator[str]:
        """The plan, one line per stage."""
        self.config.check()
        reasons = self.reasons()
        width = max(len(stage.name) for stage in self.stages)
        for stage in self.stages:
            yield f"{stage.name:{width}}  {reasons.get(stage.name) or 'done'}"
        yield from self._notes(reasons)
        anew = sum(reason.startswith(ANEW) for reason in reasons.values())
        also = f", {anew} only to be described anew" if anew else ""
        yield f"{len(reasons) - anew} of {len(self.stages)} stages to run{also} in {self.path}"

    def run(self, executor: Executor, say: Callable[[str], None]) -> str:
        """Run the stages that are not done yet, and ``say`` a line for each that ends.

        Returns:
            What came out, in a line.

        Raises:
            RunError: If a stage failed, an input is missing, ``executor`` cannot do this run, or another
                process is running it.
        """
        self.config.check()
        self._check(executor)
        with self.folder.locked("run", wait=False):
            stale = self._stale()
            if stale:
                self._write_manifest()  # a kill leaves it as it is
                for line in self._notes([stage.name for stage in stale]):
                    say(line)
            else:
                say("every stage was done already")
            try:
                failed = self._execute(stale, executor, say) if stale else {}
            finally:
                self._write_manifest()
        if failed:
            raise RunError("\n".join([*_failures(self.folder, failed), self._unfinished(executor)]))
        if not self.is_finished:  # Snakemake was only asked to describe them
            return self._unfinished(executor)
        results = [s for s in self.stages if s.rule in ("compare", "gather", "report")]
        written = (name for s in results for name in self.folder.files(s.writes))
        names = [name for name in written if "/" not in name and not name.endswith(SUFFIX)]
        names = ([made[1]] if (made := made_by(self.config)) else []) + names
        return f"{self.path}: {', '.join(names)}"

    def _notes(self, stale: Collection[str]) -> Iterator[str]:
        """What to know of settings before a training that is stale."""
        if self.config.job is not None and "train" in stale:
            yield from (f"train: {line}" for line in self.config.job.training.notes)

    def _write_manifest(self) -> None:
        write_manifest(self.folder, self.config, plan(self.config, self.path), self.command)

    def _check(self, executor: Executor) -> None:
        """Refuse a run that would fail, or wait for other nodes for ever."""
        if executor.name != "local":
            cluster.check_installed(executor)
        elif executor.options:
            raise RunError(
                f"{executor.options[0]}: options of Snakemake need --executor slurm, or another plugin"
            )
        n_nodes = max(self.config.nodes_and_processes(stage.rule)[0] for stage in self.stages)
        if n_nodes > 1 and executor.name != "slurm" and JOB not in os.environ:
            raise RunError(f"nodes: a training on {n_nodes} nodes needs --executor slurm")

    def _stale(self) -> list[Stage]:
        """Write configuration and requests, and mark stale stages as not done; returns these."""
        requests = self._requests()
        self.folder.write_config(self.config)
        for name, request in requests.items():
            self.folder.write_request(name, request)
        reasons = self._reasons(requests)
        for name in reasons:
            self.folder.done(name).unlink(missing_ok=True)
        return [stage for stage in self.stages if stage.name in reasons]

    def _execute(
        self, stale: Sequence[Stage], executor: Executor, say: Callable[[str], None]
    ) -> dict[str, str]:
        """Run stages here or on a cluster; returns the failed ones, with the scheduler's message."""
        folder, retries = self.folder, self.config.resources.retries
        before = {stage.name: folder.record(stage.name) for stage in stale}
        described = {stage.name for stage in stale if stage.describe is not None}
        places = count(len(self.stages) - len(stale) + 1)

        def ended(name: str) -> None:
            said = _outcome(name, before[name], folder, name in described)
            say(f"[{next(places)}/{len(self.stages)}] {said}")
            for line in _log_lines(folder, name):
                if line.startswith(NOTE):
                    say(f"{name}: {line.removeprefix(NOTE)}")

        if executor.name == "local":
            return dict.fromkeys(
                local.Pool(self.config, folder, executor.jobs, retries, ended).run(stale), ""
            )
        cluster.prepare(folder, self.config, list(before), executor, say)
        return cluster.execute(folder, list(before), executor, retries, ended, say)

    def _unfinished(self, executor: Executor) -> str:
        names = [stage.name for stage in self.stages if not self.folder.done(stage.name).exists()]
        said = "" if executor.name == "local" else f" (Snakemake said {self.path / cluster.LOG})"
        return f"not done: {few(names, 5)}; the same command goes on{said}"


def _outcome(name: str, before: Mapping[str, Any], folder: RunFolder, has_description: bool) -> str:
    """One line on a stage that ended; one with a description may only have written that anew."""
    record = folder.record(name)
    if not folder.done(name).exists():
        said = "failed"
    elif record == before:
        said = "unchanged"
    elif has_description and before.get("end") and "moved" not in record:  # what it made stayed in place
        said = "described anew"
    else:
        said = f"{record['cost']['seconds']:.1f} s, {record['cost']['peak_memory_mb']:.0f} MB"
    moved = record.get("moved") if record != before else ""
    return f"{name}: {said}" + (f"; {moved}" if moved else "")


def _log_lines(folder: RunFolder, name: str) -> list[str]:
    """The lines of the log of a stage; none where it wrote none."""
    log = folder.log(name)
    return log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []


def _failures(folder: RunFolder, failed: Mapping[str, str]) -> Iterator[str]:
    """For each stage that failed, what the scheduler said of it, and the last lines of its log."""
    for name, words in failed.items():
        log, lines = folder.log(name), words.splitlines() + _log_lines(folder, name)[-N_LOG_LINES:]
        where = f", see {log}" if log.exists() else ""
        yield "\n  ".join([f"{name} failed{where}:", *(lines or ["(it said nothing)"])])
