"""A whole run: what has to be done, doing it, and keeping account."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from mofgap.study.engine.cluster import Executor, check_installed, execute, failures
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunError, RunFolder, fingerprint
from mofgap.study.engine.manifest import write_manifest
from mofgap.study.engine.plan import plan
from mofgap.study.engine.ranks import JOB
from mofgap.study.engine.sources import code_digest
from mofgap.study.engine.stage import Stage, reason_to_run


@dataclass(frozen=True)
class Workflow:
    """A run.

    Attributes:
        config: What to do.
        path: Run folder, absolute; it need not be there yet.
        command: What was typed, for the manifest.
    """

    config: RunConfig
    path: Path
    command: str = ""

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(self.path)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Every stage, in order."""
        return plan(self.config, self.path)

    def reasons(self) -> dict[str, str]:
        """Why each stage that has to run has to."""
        return self._reasons(self._requests())

    def _requests(self) -> dict[str, dict[str, Any]]:
        """What is asked of each stage; an input of many is looked at once."""
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
        """The plan, a line a stage."""
        reasons = self.reasons()
        width = max(len(stage.name) for stage in self.stages)
        for stage in self.stages:
            yield f"{stage.name:{width}}  {reasons.get(stage.name) or 'done'}"
        yield f"{len(reasons)} of {len(self.stages)} stages to run in {self.path}"

    def draw(self, path: Path) -> None:
        """Draw the stages and what needs what.

        Raises:
            RunError: The format is unknown.
        """
        from mofgap.study.engine.graph import draw

        draw(self.stages, self.reasons(), path)

    def run(self, executor: Executor, say: Callable[[str], None]) -> str:
        """Run what is not done.

        Args:
            executor: Where jobs run.
            say: Told of each stage that ends.

        Returns:
            What came out, in a line.

        Raises:
            RunError: A stage failed, or another process is at work on this run.
        """
        check_installed(executor)
        self._check_nodes(executor)
        folder = self.folder
        with folder.locked("run", wait=False):
            if not self._ask():
                say("every stage was done already")
                write_manifest(folder, self.config, self.stages, self.command)
                return self._outcome()
            try:
                retries = self.config.resources.retries
                unfinished = execute(folder, self.stages, executor, say, retries=retries)
            finally:
                write_manifest(folder, self.config, self.stages, self.command)
        if unfinished:
            raise RunError("\n".join([*failures(folder, unfinished), _unfinished(unfinished, folder)]))
        return self._outcome()

    def _check_nodes(self, executor: Executor) -> None:
        """Refuse what would wait for other nodes for ever."""
        n_nodes = max(self.config.spread(stage.rule)[0] for stage in self.stages)
        if n_nodes > 1 and executor.name != "slurm" and JOB not in os.environ:
            raise RunError(f"nodes: a training on {n_nodes} nodes needs --executor slurm")

    def _ask(self) -> bool:
        """Write configuration and requests, and take away the mark of what is stale; whether anything is."""
        self.folder.write_config(self.config)
        requests = self._requests()
        for name, request in requests.items():
            self.folder.write_request(name, request)
        stale = self._reasons(requests)
        for name in stale:
            self.folder.done(name).unlink(missing_ok=True)
        return bool(stale)

    def _outcome(self) -> str:
        last = [stage for stage in self.stages if stage.rule in ("compare", "gather", "report")]
        results = [name for stage in last for name in self.folder.files(stage.writes)]
        return f"{self.path}: {', '.join(results)}"


def _unfinished(names: list[str], folder: RunFolder) -> str:
    few = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"not done: {few}; the same command goes on (Snakemake said {folder.path / 'logs/snakemake.log'})"
