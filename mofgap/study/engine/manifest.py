"""``manifest.json``: what a run was made with, from and of."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from mofgap.configuration import digest, to_dict
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunFolder, fingerprint, read_state, sha256, write_state
from mofgap.study.engine.stage import Stage
from mofgap.study.layout import MANIFEST, RUN_CONFIG
from mofgap.study.members import members
from mofgap.threads import usable_cores

VERSION = 1

_ALWAYS = {
    *("name", "finished", "command", "seen_from", "written", "start", "end", "seconds", "peak_memory_mb"),
    *("config_digest", "seeds", "mofgap", "packages", "inputs", "outputs", "stages"),
}
"""What the reader of a manifest may count on."""


def write_manifest(folder: RunFolder, config: RunConfig, stages: Sequence[Stage], command: str) -> None:
    """Write the manifest of a run, finished or not, with all that has been done so far."""
    content = {
        "version": VERSION,
        "name": config.name,
        "planned": [stage.name for stage in stages],
        "command": command,
        "seen_from": str(Path.cwd()),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_digest": digest(to_dict(config)),
        "seeds": _seeds(config),
        **environment(),
        "outputs": {RUN_CONFIG: sha256(folder.path / RUN_CONFIG)},
    }
    found = _with_done(content, folder)
    write_state(folder.path / MANIFEST, found | {"finished": len(found["stages"]) == len(stages)})


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run folder; empty where there is none, or it is damaged or of another version.

    Of a run that is at work, or was killed, it has the stages that were done since it was written.
    """
    found = read_state(run / MANIFEST)
    if found.get("version") != VERSION or not found.keys() >= _ALWAYS:
        return {}
    return found if found["finished"] or "planned" not in found else _with_done(found, RunFolder(run))


def _with_done(content: dict[str, Any], folder: RunFolder) -> dict[str, Any]:
    """A manifest with what there is to say of those of its planned stages that are done now."""
    records = {name: folder.record(name) for name in content["planned"]}
    ended = {name: r for name, r in records.items() if r.get("end") and folder.done(name).exists()}
    # The last request of what is done has the same inputs, which may have been moved since.
    done = {name: r | {"request": folder.request(name) or r["request"]} for name, r in ended.items()}
    outputs = {path: known for record in done.values() for path, known in record["outputs"].items()}
    inputs = {path: known for r in done.values() for path, known in r["request"]["inputs"].items()}
    costs = [record["cost"] for record in done.values()]
    return content | {
        "start": min((record["start"] for record in done.values()), default=None),
        "end": max((record["end"] for record in done.values()), default=None),
        "seconds": round(sum(cost["seconds"] for cost in costs), 2),
        "cpu_seconds": round(sum(cost["cpu_seconds"] for cost in costs), 2),
        "peak_memory_mb": max((cost["peak_memory_mb"] for cost in costs), default=None),
        "inputs": dict(sorted(inputs.items())),
        "outputs": content["outputs"] | dict(sorted(outputs.items())),
        "stages": {name: _stage(record) for name, record in done.items()},
    }


def environment() -> dict[str, Any]:
    """Versions of everything installed, Python, platform and git state."""
    versions = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {
        "mofgap": versions.get("mofgap", "not installed"),
        "packages": dict(sorted(versions.items(), key=lambda item: item[0].lower())),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": {"host": platform.node(), "processor": _processor(), "cores": usable_cores()},
        "git": _git(),
    }


def verify(run: Path) -> list[str]:
    """A line for each input or output that differs from the manifest or no longer exists."""
    manifest, found = read_manifest(run), []
    for name, known in manifest["outputs"].items():
        now = sha256(run / name)
        if now != known:
            found.append(f"output {name}: {'changed' if now else 'is gone'}")
    here = Path.cwd()
    os.chdir(manifest["seen_from"] if Path(manifest["seen_from"]).is_dir() else here)
    try:
        for name, known in manifest["inputs"].items():
            now = fingerprint(name)
            if now != known:
                found.append(f"input {name}: {'changed' if now else 'is gone'}")
    finally:
        os.chdir(here)
    return found


def _stage(record: dict[str, Any]) -> dict[str, Any]:
    request = record["request"]
    return {
        "start": record["start"],
        "end": record["end"],
        **record["cost"],
        "key": record["key"],
        "code": request["code"],
        "inputs": list(request["inputs"]),
        "outputs": list(record["outputs"]),
    }


def _seeds(config: RunConfig) -> dict[str, Any]:
    """Every seed of a run by what it seeds."""
    found: dict[str, Any] = {}
    if config.comparison is not None:
        comparison = config.comparison
        found |= {
            "data": comparison.data.seed,
            "trainings": {member.name: member.seed for member in members(comparison)},
            "prediction": comparison.prediction.seed,
            "bootstrap": comparison.judgement.seed,
        }
    if config.job is not None:
        found["training"] = config.job.training.seed
    if config.pretraining is not None:
        found["pretraining"] = config.pretraining.seed
    if config.screening is not None:
        found["screening"] = config.screening.seed
    return found


def _processor() -> str:
    """Name of the processor, on which the last digits depend."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _git() -> dict[str, Any] | None:
    """Commit of the clone that mofgap runs from, and whether it was changed; None outside of one."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    try:
        changed = ask("status", "--porcelain", "--untracked-files=no").splitlines()
        return {"commit": ask("rev-parse", "HEAD"), "branch": ask("rev-parse", "--abbrev-ref", "HEAD"),
                "changed": [line[3:] for line in changed]}  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
