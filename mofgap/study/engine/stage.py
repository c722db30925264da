"""One stage of a run: what is asked of it, whether it is done, and doing it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mofgap.configuration import digest
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.cost import measured
from mofgap.study.engine.folder import RunError, RunFolder, fingerprint
from mofgap.study.engine.ranks import launch, needs_launch
from mofgap.study.engine.sources import code_digest


@dataclass(frozen=True)
class Stage:
    """One job.

    Attributes:
        rule: Its kind.
        item: Which one of its kind; empty where there is but one.
        after: Names of the stages that come before.
        settings: What of the configuration its result depends on.
        files: Inputs from outside the run.
        modules: Where its code begins.
        writes: Patterns of the files it makes, relative to the run folder.
        reads: Patterns of what it reads of the stages before it.
        work: Does it.
        content: A digest of what else it reads, of a part of files.
        describes: What of the configuration it says of its result, which stays when only that changes.
    """

    rule: str
    work: Callable[[RunConfig, Path], None]
    settings: dict[str, Any]
    modules: tuple[str, ...]
    writes: tuple[str, ...]
    item: str = ""
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("**",)
    content: Callable[[RunConfig, Path], str] | None = None
    describes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``RULE`` or ``RULE/ITEM``."""
        return f"{self.rule}/{self.item}" if self.item else self.rule

    def request(
        self,
        look: Callable[[str], str] = fingerprint,
        code: Callable[[tuple[str, ...]], str] = code_digest,
    ) -> dict[str, Any]:
        """What is asked of it: configuration, code version, hashes of inputs from outside.

        Args:
            look: `fingerprint`, or one that remembers, for many stages with the same inputs.
            code: `code_digest`, likewise.

        Raises:
            RunError: An input is not there.
        """
        inputs = {name: look(name) for name in self.files}
        missing = [name for name, known in inputs.items() if not known]
        if missing:
            raise RunError(f"{self.name}: there is no {missing[0]}, seen from {Path.cwd()}")
        asked = {"settings": self.settings, "describes": self.describes}
        return asked | {"code": code(self.modules), "inputs": inputs}


def run_stage(stage: Stage, config: RunConfig, folder: RunFolder, threads: int) -> bool:
    """Do a stage, unless it is done already with the same inputs, code and configuration.

    What a stage left that was asked for something else is removed first, and so is what it finished and what
    was damaged since. What it left when it was killed on the same errand stays, for it to go on with, and so
    does what is to be described anew.

    Returns:
        Whether there was anything to do.

    Raises:
        RunError: The stage did not write what it should.
    """
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        # One more process of a training on several devices: the first one keeps account.
        stage.work(config, folder.path)
        return True
    with folder.locked(stage.name, wait=True):
        request = folder.request(stage.name) or stage.request()
        inputs = _inputs(stage, config, folder)
        key = digest(request["settings"], request["code"], list(request["inputs"].values()), inputs)
        last = folder.record(stage.name)
        whole = bool(last.get("end")) and folder.intact(last["outputs"])
        if last.get("key") == key and whole and not _changed("describes", last["request"], request):
            folder.done(stage.name).touch()
            return False
        if last and (last.get("key") != key or (last.get("end") and not whole)):
            _remove(folder, stage.writes)
        begun = {"stage": stage.name, "key": key, "request": request, "inputs": inputs, "start": _now()}
        folder.write_record(stage.name, begun)
        cost = _do(stage, config, folder, threads)
        outputs = {name: fingerprint(str(folder.path / name)) for name in folder.files(stage.writes)}
        if not outputs:
            raise RunError(f"{stage.name} wrote nothing")
        folder.write_record(stage.name, begun | {"end": _now(), "cost": cost, "outputs": outputs})
        folder.done(stage.name).touch()
    return True


def _do(stage: Stage, config: RunConfig, folder: RunFolder, threads: int) -> dict[str, Any]:
    """Do the work, here or in processes that a scheduler starts; returns what it cost."""
    nodes, processes = config.spread(stage.rule)
    if needs_launch(nodes, processes):
        return launch(stage.name, folder, nodes, processes, threads)
    return measured(lambda: stage.work(config, folder.path), threads)


def reason_to_run(stage: Stage, folder: RunFolder, request: dict[str, Any]) -> str:
    """Why a stage has to run, as far as can be said before those before it have run; empty if it need not."""
    last = folder.record(stage.name)
    if not last:
        return "never ran"
    if not last.get("end"):
        return "was cut off"
    known = last["request"]
    changed = [name for part in ("settings", "describes") for name in _changed(part, known, request)]
    if changed:
        return f"configuration changed: {', '.join(changed)}"
    if list(known["inputs"].values()) != list(request["inputs"].values()):
        new = [name for name, value in request["inputs"].items() if value not in known["inputs"].values()]
        return f"input changed: {', '.join(new) or 'one is gone, or two changed places'}"
    if known["code"] != request["code"]:
        return "code changed"
    if not folder.intact(last["outputs"]):
        return "output changed or gone"
    return "" if folder.done(stage.name).exists() else "its mark is gone"


def _changed(part: str, known: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """Names of the settings of a part of two requests that differ."""
    old, new = known.get(part, {}), request.get(part, {})
    return [name for name in {**old, **new} if digest(old.get(name)) != digest(new.get(name))]


def _inputs(stage: Stage, config: RunConfig, folder: RunFolder) -> dict[str, str]:
    """Hashes of what a stage reads of those before it."""
    found = {"content": stage.content(config, folder.path)} if stage.content is not None else {}
    wanted = set(folder.files(stage.reads))
    for name in stage.after:
        outputs = folder.record(name).get("outputs", {})
        found |= {path: known for path, known in outputs.items() if path in wanted}
    return found


def _remove(folder: RunFolder, patterns: tuple[str, ...]) -> None:
    """Remove what a stage may have left, half-written files included."""
    for pattern in patterns:
        if pattern.endswith("/**"):
            shutil.rmtree(folder.path / pattern.removesuffix("/**"), ignore_errors=True)
    for name in folder.files(patterns):
        (folder.path / name).unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
