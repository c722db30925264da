"""A run folder: where things lie, and hashes of what lies there."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mofgap.checked_json import read_checked, write_checked
from mofgap.configuration import dump, load
from mofgap.study.engine.config import RunConfig
from mofgap.study.layout import RUN_CONFIG
from mofgap.whole_file import read_json, sha256_of, write_json, write_text

STAGES, LOGS, STALE = "stages", "logs", "stale"


class RunError(ValueError):
    """A run that cannot start or continue, and why."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Attributes:
        path: Absolute.
    """

    path: Path

    @property
    def config(self) -> RunConfig:
        """The resolved configuration.

        Raises:
            ConfigurationError: If the run's configuration file is missing or damaged.
        """
        return load(RunConfig, self.path / RUN_CONFIG)

    def write_config(self, config: RunConfig) -> None:
        """Write the resolved configuration, unless it is there already."""
        path, text = self.path / RUN_CONFIG, dump(config)
        if not path.exists() or path.read_bytes() != text.encode():
            write_text(path, text)

    def log(self, stage: str) -> Path:
        """The log of a stage."""
        return self.path / LOGS / f"{stage}.log"

    def done(self, stage: str) -> Path:
        """A file that exists once a stage is done; Snakemake looks for it."""
        return self.path / STAGES / f"{stage}.done"

    def request(self, stage: str) -> dict[str, Any]:
        """What a stage should be done with: configuration, code version, hashes of inputs from outside."""
        return read_json(self._file(stage, "request"))

    def write_request(self, stage: str, request: dict[str, Any]) -> None:
        """Write the request of a stage.

        Snakemake runs the stage again where the file is newer, so it stays as it is where nothing changed.
        """
        if self.request(stage) != json.loads(json.dumps(request)):
            write_json(self._file(stage, "request"), request)

    def record(self, stage: str) -> dict[str, Any]:
        """The last record of a stage: key, outputs with hashes, times and cost; empty if there is none."""
        return read_state(self._file(stage, "record"))

    def is_record_damaged(self, stage: str) -> bool:
        """Whether the last record of a stage is damaged."""
        return self._file(stage, "record").exists() and not self.record(stage)

    def write_record(self, stage: str, record: dict[str, Any]) -> None:
        """Write the record of a stage."""
        write_state(self._file(stage, "record"), record)

    def costs(self, stage: str) -> list[dict[str, Any]]:
        """The cost of each start of a stage, since it last started from the beginning."""
        starts: list[dict[str, Any]] = read_state(self._file(stage, "cost")).get("starts", [])
        return starts

    def write_costs(self, stage: str, starts: Sequence[dict[str, Any]]) -> None:
        """Write the cost of each start of a stage, also while it runs."""
        write_state(self._file(stage, "cost"), {"starts": starts})

    def rank(self, stage: str, rank: int) -> Path:
        """File with the cost of one process of a stage, where a scheduler started several."""
        return self._file(stage, f"rank{rank}")

    def files(self, patterns: Iterable[str]) -> list[str]:
        """The files that match some patterns, relative to the folder, sorted, without half-written ones."""
        found = {
            name
            for pattern in patterns
            for name in glob.glob(pattern, root_dir=self.path, recursive=True)  # noqa: PTH207 (relative)
            if (self.path / name).is_file() and not name.endswith(".partial")
        }
        return sorted(found)

    def intact(self, outputs: dict[str, str]) -> bool:
        """Whether some files are there with the content that was recorded."""
        return all(sha256(self.path / name) == known for name, known in outputs.items())

    def set_aside(self, stage: str, patterns: Iterable[str], reason: str) -> str:
        """Move the files of a stage, and its record, to ``stale/STAGE/NUMBER``.

        Args:
            stage: Its name.
            patterns: Patterns of what it writes; all of a folder goes where a pattern ends in ``/**``.
            reason: Why it cannot stay.

        Returns:
            A line that says what was moved where and why; empty if there was nothing.
        """
        wholes = [
            name
            for pattern in patterns
            for name in glob.glob(pattern.removesuffix("/**"), root_dir=self.path)  # noqa: PTH207 (relative)
            if pattern.endswith("/**") or (self.path / name).is_dir()  # once a folder, now a file
        ]
        names = wholes + [
            name for name in self.files(patterns) if not name.startswith(tuple(f"{f}/" for f in wholes))
        ]
        names = list(dict.fromkeys(names))  # patterns of before and now may match the same
        if not names:
            return ""
        kept = self.path / STALE / stage
        kept /= str(1 + max((int(p.name) for p in kept.glob("*") if p.name.isdecimal()), default=0))
        moved = f"moved {', '.join(names)} to {kept.relative_to(self.path)}: {reason}"
        write_json(kept / "record.json", self.record(stage) | {"moved": moved})
        if self.is_record_damaged(stage):
            self._file(stage, "record").rename(kept / "damaged_record.json")
        for name in names:
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).rename(kept / name)
        return moved

    @contextmanager
    def locked(self, name: str, *, wait: bool) -> Iterator[None]:
        """Hold a lock of the run, which the system releases when this process ends, however it ends.

        Raises:
            RunError: If another process holds the lock ``name`` and ``wait`` is False, or the file system has
                no locks. Without locks two runs could work in one folder.
        """
        path = self.path / STAGES / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise RunError(f"another mofgap run is at work in {self.path}") from error
            except OSError as error:
                raise RunError(self._without_locks(error.strerror or str(error))) from error
            with path.open("w") as other, suppress(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                raise RunError(self._without_locks("two processes can have the same one"))
            yield

    def is_locked(self) -> bool:
        """Whether some process, on this or another machine, holds the lock of the run."""
        path = self.path / STAGES / "run.lock"
        if not path.exists():
            return False
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _without_locks(self, why: str) -> str:
        cure = "put the run folder on another file system (-o), or mount this one with locks"
        return f"the file system of {self.path} does not hold locks ({why}): {cure}"

    def _file(self, stage: str, kind: str) -> Path:
        return self.path / STAGES / f"{stage}.{kind}.json"


def write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object with its sha256."""
    write_checked(path, content, key="sha256")


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote; empty where there is no file, or a damaged one."""
    try:
        content, own, fitting = read_checked(path, key="sha256")
    except (OSError, ValueError):
        return {}
    return content if own == fitting else {}


def sha256(path: Path) -> str:
    """sha256 of a file; empty where there is none."""
    try:
        return sha256_of(path)
    except OSError:
        return ""


def fingerprint(name: str) -> str:
    """The current state of an input from outside the run.

    For a file it is the sha256 of its content. For a folder, a pattern or an ``@list.txt`` it is made of the
    names, sizes and times of its CIFs and archives. To read their contents would take as long as the work
    itself. It is empty if there is nothing, or if a part cannot be read.
    """
    if Path(name).is_file():
        return sha256(Path(name))
    from mofgap.crystals.inputs import files_of  # slow to import, and most inputs are files

    digest, empty = hashlib.sha256(), True
    try:
        for each in files_of(name):
            seen, empty = Path(each).stat(), False
            digest.update(f"{each} {seen.st_size} {seen.st_mtime_ns}\n".encode(errors="surrogateescape"))
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if empty else digest.hexdigest()
