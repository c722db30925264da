"""One stage of a run: its key, whether it is done, and doing it.

The key is a digest of the stage's settings, of its code, and of the contents of its inputs. A stage is done
once the record in the run folder has that key and the outputs are as the record says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mofgap.choices import Device
from mofgap.configuration import digest
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.cost import measured, total
from mofgap.study.engine.folder import RunError, RunFolder, fingerprint
from mofgap.study.engine.ranks import launch, needs_launch
from mofgap.study.engine.sources import code_digest

Work = Callable[[RunConfig, Path], None]
"""What a stage does: takes the configuration and the run folder, and can be pickled."""


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
        costs: Patterns of those that say what it cost: they differ from run to run, and are no results.
        reads: Patterns of what it reads of the stages before it.
        work: Does it.
        content: A digest of what else it reads, of a part of files.
        describes: What of the configuration it says of its result, which stays when only that changes.
        describe: Writes anew what it says of a result that stays; ``work`` where there is none.
        device: What it computes on. Where there is no such device, it fails before anything is moved aside.
    """

    rule: str
    work: Work
    settings: dict[str, Any]
    modules: tuple[str, ...]
    writes: tuple[str, ...]
    costs: tuple[str, ...] = ()
    item: str = ""
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("**",)
    content: Callable[[RunConfig, Path], str] | None = None
    describes: dict[str, Any] = field(default_factory=dict)
    describe: Work | None = None
    device: Device = "auto"

    @property
    def name(self) -> str:
        """``RULE`` or ``RULE/ITEM``."""
        return f"{self.rule}/{self.item}" if self.item else self.rule

    def request(
        self,
        look: Callable[[str], str] = fingerprint,
        code: Callable[[tuple[str, ...]], str] = code_digest,
    ) -> dict[str, Any]:
        """The part of the stage's key that is known before the earlier stages are done.

        Args:
            look: `fingerprint`, or a cached one for many stages with the same inputs.
            code: `code_digest`, likewise.

        Raises:
            RunError: If a file or folder outside the run that the stage reads does not exist.
        """
        inputs = {name: look(name) for name in self.files}
        missing = [name for name, known in inputs.items() if not known]
        if missing:
            if Path(missing[0]).exists():
                raise RunError(f"{self.name}: {missing[0]} holds no files")
            raise RunError(f"{self.name}: there is no {missing[0]}, seen from {Path.cwd()}")
        asked = {"settings": self.settings, "describes": self.describes}
        return asked | {"code": code(self.modules), "inputs": inputs}


def run_stage(stage: Stage, config: RunConfig, folder: RunFolder, threads: int) -> bool:
    """Do a stage, unless it is done already with the same key.

    What it left with another key, or what was damaged since, is moved aside first. What it left with the same
    key when it was killed stays, for it to go on with.

    Returns:
        Whether there was anything to do.

    Raises:
        RunError: If the stage wrote no files, an input of it is missing, its device is cuda and torch finds
            none, or one of its processes failed under srun.
    """
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        # One more process of a training on several devices: the first one keeps account.
        stage.work(config, folder.path)
        return True
    with folder.locked(stage.name, wait=True):
        request = folder.request(stage.name) or stage.request()
        inputs = _inputs(stage, config, folder)
        key = digest(request["settings"], request["code"], list(request["inputs"].values()), inputs)
        begun = {"stage": stage.name, "key": key, "request": request, "inputs": inputs, "start": _now()}
        begun |= {WRITES: stage.writes}
        last, work = folder.record(stage.name), stage.work
        is_going_on = last.get("key") == key and not last.get("end")
        if last.get("key") == key and last.get("end") and _is_there(last, folder):
            if not (_differing("describes", last["request"], request) or last.get(DESCRIBING)):
                folder.done(stage.name).touch()
                return False
            work = stage.describe or stage.work
            folder.write_record(stage.name, last | {DESCRIBING: True})
        else:
            _check_device(stage)
            if not is_going_on:
                damaged = folder.is_record_damaged(stage.name)
                unknown = "its record is damaged" if damaged else "no record says what made it"
                reason = _reason(last, folder, request, inputs) if last else unknown
                patterns = (*stage.writes, *stage.costs, *last.get(WRITES, ()))
                moved = folder.set_aside(stage.name, patterns, reason)
                begun |= {"moved": moved}
                sys.stderr.write(f"{moved}\n" if moved else "")
                folder.write_costs(stage.name, [])
            folder.write_record(stage.name, begun)
        cost = _do(stage, work, config, folder, threads)
        if stage.describe and is_going_on and _differing("describes", last["request"], request):
            stage.describe(config, folder.path)  # what was there already may say what was asked before
        names = set(folder.files(stage.writes)) - set(folder.files(stage.costs))
        outputs = {name: fingerprint(str(folder.path / name)) for name in sorted(names)}
        if not outputs:
            raise RunError(f"{stage.name} wrote nothing")
        folder.write_record(stage.name, begun | {"end": _now(), "cost": cost, "outputs": outputs})
        folder.done(stage.name).touch()
    return True


NOTE = "note: "
"""Begins a line in the log of a stage that its run prints too."""


def note(lines: Iterable[str]) -> None:
    """Write to the log of a stage what its run prints too."""
    for line in lines:
        sys.stderr.write(f"{NOTE}{line}\n")


WRITES = "writes"
"""Key of a record with the patterns of what a stage makes, which another configuration may name otherwise."""

DESCRIBING = "describing"
"""Key of a record while what a stage says of its result is written anew."""


def _is_there(last: dict[str, Any], folder: RunFolder) -> bool:
    """Whether the outputs are as a record says; while they are described anew, only tensors must be."""
    outputs = last["outputs"]
    if not last.get(DESCRIBING):
        return folder.intact(outputs)
    there = all((folder.path / name).exists() for name in outputs)
    return there and folder.intact({k: v for k, v in outputs.items() if k.endswith(".safetensors")})


def _check_device(stage: Stage) -> None:
    """Refuse a stage whose device is not here.

    Raises:
        RunError: If its device is cuda, and torch finds no CUDA device.
    """
    if stage.device != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        raise RunError(f"{stage.name}: device is cuda, but torch sees no CUDA device here; set auto or cpu")


def _do(stage: Stage, work: Work, config: RunConfig, folder: RunFolder, threads: int) -> dict[str, Any]:
    """Do the work, here or in processes that a scheduler starts; returns what it cost with earlier starts."""
    nodes, processes = config.nodes_and_processes(stage.rule)
    earlier = folder.costs(stage.name)

    def keep(cost: dict[str, Any]) -> None:
        folder.write_costs(stage.name, [*earlier, cost])

    if work is stage.work and needs_launch(nodes, processes):
        cost = launch(stage.name, folder, nodes, processes, threads, keep)
    else:
        cost = measured(lambda: work(config, folder.path), threads, keep)
    keep(cost)
    return total([*earlier, cost])


def reason_to_run(stage: Stage, folder: RunFolder, request: dict[str, Any]) -> str:
    """Why a stage has to run, as far as is known before earlier stages have run; empty if it need not."""
    if folder.is_record_damaged(stage.name):
        return "its record is damaged"
    last = folder.record(stage.name)
    reason = _reason(last, folder, request)
    described = _differing("describes", last["request"], request) if last else []
    if stage.describe is not None and reason == f"configuration changed: {', '.join(described)}":
        return f"{ANEW}: {', '.join(described)} changed"
    return reason or ("" if folder.done(stage.name).exists() else "its mark is gone")


ANEW = "only described anew"
"""Begins the reason of a stage of which nothing changed but what it says of its result."""


def _reason(
    last: dict[str, Any], folder: RunFolder, request: dict[str, Any], inputs: dict[str, str] | None = None
) -> str:
    """How a record differs from a request, and from the results of earlier stages if they are known."""
    if not last:
        return "never ran"
    known = last["request"]
    described = _differing("describes", known, request)
    if changed := _differing("settings", known, request):
        return f"configuration changed: {', '.join([*changed, *described])}"
    if list(known["inputs"].values()) != list(request["inputs"].values()):
        new = [name for name, value in request["inputs"].items() if value not in known["inputs"].values()]
        return f"input changed: {', '.join(new) or 'one is gone, or two changed places'}"
    if known["code"] != request["code"]:
        return "code changed"
    if inputs is not None and inputs != last["inputs"]:
        names = sorted({**last["inputs"], **inputs}, key=str)
        return f"what it reads changed: {few([n for n in names if last['inputs'].get(n) != inputs.get(n)])}"
    if not last.get("end"):
        return "was cut off"
    if last.get(DESCRIBING) and _is_there(last, folder):
        return "was cut off while it was described anew"
    damaged = [name for name, value in last["outputs"].items() if not folder.intact({name: value})]
    if damaged:
        return f"output changed or gone: {few(damaged)}"
    return f"configuration changed: {', '.join(described)}" if described else ""


def few(names: list[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _differing(part: str, known: dict[str, Any], request: dict[str, Any]) -> list[str]:
    """Names of the settings of a part of two requests that differ."""
    old, new = known.get(part, {}), request.get(part, {})
    return [name for name in {**old, **new} if digest(old.get(name)) != digest(new.get(name))]


def _inputs(stage: Stage, config: RunConfig, folder: RunFolder) -> dict[str, str]:
    """Hashes of the files that a stage reads of earlier stages."""
    found = {"content": stage.content(config, folder.path)} if stage.content is not None else {}
    wanted = set(folder.files(stage.reads))
    for name in stage.after:
        outputs = folder.record(name).get("outputs", {})
        found |= {path: known for path, known in outputs.items() if path in wanted}
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
