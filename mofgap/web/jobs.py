"""Screenings of visitors: started, watched, kept as long as wanted, and removed with all they brought."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formats import stem_of
from mofgap.crystals.inputs import passed_over_words
from mofgap.crystals.item import InputItem
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.rank import rank_rows
from mofgap.screening.reading import PROCESS_DIED
from mofgap.screening.row import FAILED, Row, failed_row
from mofgap.web.config import MB, ServeConfig
from mofgap.web.temporary import ServerFolder
from mofgap.web.uploads import RequestError, Upload, inputs_of
from mofgap.web.work import report_of, screen_source
from mofgap.web.worker_queue import WorkerQueue
from mofgap.whole_file import write_text

State = Literal["reading", "screening", "done", "failed"]
_log = logging.getLogger(__name__)
_NO_REPORT = (
    "the process that drew the report was ended twice, perhaps for want of memory: ask again later, or take "
    "the table and run mofgap report TABLE on a computer with more memory"
)


@dataclass(eq=False)
class Job:
    """A screening of a visitor.

    Attributes:
        id: Names it; who knows the id may see it.
        upload: What was sent.
        config: How to screen it.
        state: How far it is.
        fault: Why it failed as a whole; None unless it did.
        inputs: The structures, in order.
        found: The rows of each input that is done, by its place.
        seen: When its visitor asked last, seconds of `time.monotonic`.
        kept_until: In the same seconds; None unless it was asked for.
        runner: Computes it; None before it is begun.
        reading: Reads its inputs; None before it is begun.
    """

    id: str
    upload: Upload
    config: ScreeningConfig
    state: State = "reading"
    fault: RequestError | None = None
    inputs: list[InputItem | ReadFailure] = field(default_factory=list)
    found: dict[int, tuple[Row, ...]] = field(default_factory=dict)
    seen: float = field(default_factory=time.monotonic)
    kept_until: float | None = None
    runner: asyncio.Task[None] | None = None
    reading: asyncio.Future[list[InputItem | ReadFailure]] | None = None
    is_removed: bool = False
    _drawing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def rows(self) -> list[Row]:
        """The ranked table, as far as it is done."""
        rows = (row for place in sorted(self.found) for row in self.found[place])
        return rank_rows(rows, **self.config.rank_settings)

    @property
    def skipped(self) -> str:
        """What was not read of its folders and archives; empty for nothing."""
        found = self.upload.passed_over
        return passed_over_words(found, "send it by itself") if found else ""

    def counts(self) -> dict[str, int]:
        """Numbers of rows by their status."""
        done = list(self.found.values())  # at once, since others are added meanwhile
        counts = Counter(row.status for rows in done for row in rows)
        return {status: counts[status] for status in ("ok", "warning", "failed")}

    async def report(self, queue: WorkerQueue) -> Path:
        """The report, made once.

        Raises:
            RequestError: If the screening was removed meanwhile, or the process that draws the report dies.
        """
        path = self.upload.folder / "report.html"
        async with self._drawing:
            if not path.exists():
                name = ", ".join(each.shown for each in self.upload.files[:3])
                n_more = len(self.upload.files) - 3
                source = f"{name} and {n_more} more" if n_more > 0 else name
                items = {
                    (row.file, row.structure_id): item
                    for place, rows in list(self.found.items())
                    for row in rows
                    if isinstance(item := self.inputs[place], InputItem)
                }
                try:
                    page = await queue.run(report_of, self.rows(), items, self.config, source)
                except BrokenExecutor as error:
                    raise RequestError(503, _NO_REPORT) from error
                if self.is_removed:
                    raise RequestError(404, "the screening was removed; send the files again")
                await asyncio.to_thread(write_text, path, page)
        return path


class Jobs:
    """All screenings of the server.

    Args:
        limits: How many there may be, and for how long.
        queue: Where they compute.
    """

    def __init__(self, limits: ServeConfig, queue: WorkerQueue) -> None:
        self.limits = limits
        self.queue = queue
        self._folder = ServerFolder()
        self.root = self._folder.path
        self._jobs: dict[str, Job] = {}
        self._uploading = 0

    def new_folder(self) -> Path:
        """A folder for an upload, which counts as a screening from now on.

        Raises:
            RequestError: If there are too many screenings, or their files are too large together.
        """
        n_bytes = sum(job.upload.n_bytes for job in self._jobs.values())
        n_bytes += (self._uploading + 1) * self.limits.max_mb * MB
        full = len(self._jobs) + self._uploading >= self.limits.max_screenings
        if full or n_bytes > max(self.limits.max_total_mb, self.limits.max_mb) * MB:
            raise RequestError(
                503, "the server holds as many screenings as it may; try again in some minutes"
            )
        folder = Path(tempfile.mkdtemp(dir=self.root))
        self._uploading += 1  # an upload without a folder would never end
        return folder

    def end_upload(self, folder: Path, *, failed: bool) -> None:
        """Note that an upload has ended; the folder of one that failed is removed."""
        self._uploading -= 1
        if failed:
            shutil.rmtree(folder, ignore_errors=True)

    def start(self, upload: Upload, config: ScreeningConfig) -> Job:
        """Begin to screen an upload."""
        job = Job(secrets.token_urlsafe(18), upload, config)
        self._jobs[job.id] = job
        job.runner = asyncio.create_task(self._screen(job))
        return job

    def find(self, job_id: str) -> Job:
        """The screening with an id. The time of this request is recorded.

        Raises:
            RequestError: If no screening has the id ``job_id``, or it has expired.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise RequestError(404, "there is no such screening; it may have expired: send the files again")
        job.seen = time.monotonic()
        return job

    def keep(self, job: Job) -> None:
        """Keep a screening although its page is closed."""
        job.kept_until = time.monotonic() + 3600 * self.limits.keep_hours

    async def remove(self, job: Job) -> None:
        """Stop a screening, and remove it with all its files."""
        self._jobs.pop(job.id, None)
        job.is_removed = True
        if job.runner is not None:
            job.runner.cancel()
            with suppress(asyncio.CancelledError):
                await job.runner
        if job.reading is not None:  # a thread, which writes files until it has seen that it is to stop
            job.upload.is_stopped = True
            await asyncio.gather(job.reading, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, job.upload.folder, ignore_errors=True)

    async def expire(self, now: float) -> None:
        """Remove the screenings whose time is over at ``now``, in the seconds of `time.monotonic`."""
        for job in list(self._jobs.values()):
            until = job.seen + 60 * self.limits.expire_minutes
            if now > max(until, job.kept_until or 0):
                await self.remove(job)

    async def close(self) -> None:
        """Remove everything."""
        for job in list(self._jobs.values()):
            await self.remove(job)
        self._folder.remove()

    async def _screen(self, job: Job) -> None:
        try:
            job.reading = asyncio.ensure_future(asyncio.to_thread(inputs_of, job.upload, self.limits))
            job.inputs = await asyncio.shield(job.reading)
            job.state = "screening"
            places = iter(range(len(job.inputs)))
            # All take from one iterator, so that a lone visitor has every worker.
            async with asyncio.TaskGroup() as group:
                for _ in range(self.queue.workers):
                    group.create_task(self._take(job, places))
            job.state = "done"
        except RequestError as error:
            job.state, job.fault = "failed", error
        except Exception:
            _log.exception("a screening failed")
            words = "the server met an error of its own; tell whoever runs it"
            job.state, job.fault = "failed", RequestError(500, words)

    async def _take(self, job: Job, places: Iterator[int]) -> None:
        """Screen one input after the other."""
        for place in places:
            source = job.inputs[place]
            try:
                job.found[place] = await self.queue.run(screen_source, job.config, source)
            except BrokenExecutor:
                job.found[place] = (_failed(source, PROCESS_DIED),)
            except Exception as error:  # one structure must not cost the others
                _log.exception("%r failed", source.source)
                words = " ".join(f"{FAILED}: {type(error).__name__}: {error}".split())
                job.found[place] = (_failed(source, words),)


def _failed(source: InputItem | ReadFailure, reason: str) -> Row:
    return failed_row(ReadFailure(source.source, stem_of(source.source), reason))
