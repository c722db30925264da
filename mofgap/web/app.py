"""The server: what it answers to which request."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, cast, get_args

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from mofgap.configuration import ConfigurationError
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.levels import DEFAULT, LEVELS, models_of
from mofgap.screening.levels import Level as LevelName
from mofgap.screening.row import named_cells
from mofgap.screening.table import table_bytes
from mofgap.version import installed_version
from mofgap.web.answers import (
    BODY,
    EVERYWHERE,
    LOST,
    LOST_OR_FOREIGN,
    NO_REPORT,
    UPLOAD_FAULTS,
    Level,
    Model,
    Progress,
    Table,
)
from mofgap.web.config import MB, ServeConfig
from mofgap.web.guard import Guard
from mofgap.web.jobs import Job, Jobs
from mofgap.web.pages import assets, docs_page, screen_page
from mofgap.web.uploads import RequestError, Upload, receive, too_large
from mofgap.web.work import describe
from mofgap.web.worker_queue import WorkerQueue

CHECK_S = 5.0
"""Seconds between two looks for screenings whose time is over."""

Kind = Literal["csv", "xlsx", "parquet", "json"]
_log = logging.getLogger(__name__)
_SEPARATOR = re.compile(r"[\s,;]+")
_DECIMAL_COMMA = re.compile(r"\d,\d")


def make_app(
    settings: ServeConfig,
    token: str | None = None,
    queue: WorkerQueue | None = None,
    ready: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The server's application.

    Args:
        settings: What it accepts.
        token: What visitors must know; None asks for none.
        queue: Where it computes; by default in processes of its own.
        ready: Called when requests can be answered.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        state = app.state
        state.is_ending = False
        state.queue = queue or WorkerQueue(settings.workers)
        state.jobs = Jobs(settings, state.queue)
        cleaner = asyncio.create_task(_expire(state.jobs))
        try:
            state.levels = [await _level(level, state.queue, settings.device) for level in LEVELS]
            ready()
            yield
        finally:
            cleaner.cancel()
            await state.jobs.close()
            await asyncio.to_thread(state.queue.close)

    app = FastAPI(
        title="mofgap",
        version=installed_version(),
        description="Band gaps of metal-organic frameworks from crystal structures, with error bars.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    app.add_middleware(Guard, settings=settings, token=token)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _misread)
    app.include_router(_api)
    app.include_router(_pages)
    return app


async def _level(name: str, queue: WorkerQueue, device: str) -> Level:
    """A level with its models, which are loaded to see that they work."""
    found = await queue.run(describe, models_of(cast(LevelName, name), None), device)
    return Level(level=name, is_default=name == DEFAULT, models=[Model(**each) for each in found])


async def _expire(jobs: Jobs) -> None:
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            await jobs.expire(time.monotonic())
        except Exception:
            _log.exception("expired screenings could not be removed")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    # What is left of the request is not read: the connection cannot be used again.
    return JSONResponse({"detail": error.words}, error.status, {"connection": "close"})


async def _misread(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    reasons = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
    return JSONResponse({"detail": "; ".join(reasons)}, 422)


_ID = "The id that the screening got when it began."
_LIMIT = "Rows at most; all by default."
_KIND = f"Format: {', '.join(get_args(Kind))}."
_DOWNLOAD = "Whether browsers save it instead of showing it."
_api = APIRouter(prefix="/api", responses=EVERYWHERE)
_pages = APIRouter(include_in_schema=False)


async def _job(request: Request, screening_id: Annotated[str, Path(description=_ID)]) -> Job:
    jobs: Jobs = request.app.state.jobs
    return jobs.find(screening_id)


Found = Annotated[Job, Depends(_job)]


async def _started(request: Request) -> Job:
    """The screening of a request with files.

    Raises:
        RequestError: If the request or one of its fields is refused, or the server has no room for another
            screening.
    """
    settings: ServeConfig = request.app.state.settings
    jobs: Jobs = request.app.state.jobs
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > settings.max_mb * MB:
        raise RequestError(413, too_large(settings))
    folder, job = jobs.new_folder(), None
    try:
        content_type = request.headers.get("content-type", "")
        upload = await receive(request.stream(), content_type, folder, settings)
        job = jobs.start(upload, _config(upload, settings))
        return job
    finally:
        jobs.end_upload(folder, failed=job is None)


def _config(upload: Upload, settings: ServeConfig) -> ScreeningConfig:
    fields: dict[str, Any] = {"device": settings.device}
    if level := upload.fields.get("level"):
        fields["level"] = level
    if window := upload.fields.get("window"):
        try:
            if _DECIMAL_COMMA.search(window) and "." not in window:
                raise ValueError("a comma may separate the ends, or the digits of one of them")
            low, high = _SEPARATOR.split(window.strip("()[] "))
            fields["window"] = float(low), float(high)
        except ValueError as error:
            raise RequestError(
                422, f"window: expected two numbers, such as 1.8 3.0 or 1.8 inf, not {window!r}"
            ) from error
    try:
        return ScreeningConfig(**fields)
    except ConfigurationError as error:
        raise RequestError(422, str(error)) from error


async def _table(job: Job, limit: int | None = None) -> Response:
    """A `Table`, written in a thread: a long one takes a while."""

    def answer() -> Response:
        columns = job.config.columns
        rows = [named_cells(row, columns) for row in job.rows()[:limit]]
        about = {"counts": job.counts(), "skipped": job.skipped}
        return JSONResponse({"columns": columns, "rows": rows, **about})

    return await asyncio.to_thread(answer)


def _progress(job: Job) -> Progress:
    return Progress(
        id=job.id,
        state=job.state,
        error=job.fault.words if job.fault else "",
        done=len(job.found),
        total=len(job.inputs),
        counts=job.counts(),
        skipped=job.skipped,
        kept=job.kept_until is not None,
    )


@_api.post("/screen", response_model=Table, responses=UPLOAD_FAULTS, openapi_extra=BODY)
async def screen(request: Request) -> Response:
    """Screen structures, and wait for the ranked table. Nothing is kept."""
    job = await _started(request)
    jobs: Jobs = request.app.state.jobs
    try:
        while job.runner and not job.runner.done():
            if request.app.state.is_ending:
                raise RequestError(503, "the server is ending; send it again later")
            await asyncio.wait({job.runner}, timeout=1.0)
            jobs.find(job.id)
            if await request.is_disconnected():
                break
        if job.fault is not None:
            raise job.fault
        return await _table(job)
    finally:
        await jobs.remove(job)


@_api.get("/models")
async def models(request: Request) -> list[Level]:
    """The levels of theory, and the models that answer for them."""
    found: list[Level] = request.app.state.levels
    return found


@_api.post("/screenings", status_code=202, responses=UPLOAD_FAULTS, openapi_extra=BODY)
async def begin(request: Request) -> Progress:
    """Begin a screening, to be watched and fetched by its id.

    It is removed some minutes after the last request for it, unless it is kept.
    """
    return _progress(await _started(request))


@_api.get("/screenings/{screening_id}", responses=LOST)
async def progress(job: Found) -> Progress:
    """How far a screening is."""
    return _progress(job)


@_api.get("/screenings/{screening_id}/rows", response_model=Table, responses=LOST)
async def rows(job: Found, limit: Annotated[int | None, Query(ge=0, description=_LIMIT)] = None) -> Response:
    """The ranked table as far as it is done, or the first rows of it."""
    return await _table(job, limit)


@_api.get("/screenings/{screening_id}/table.{kind}", responses=LOST)
async def table(job: Found, kind: Annotated[Kind, Path(description=_KIND)]) -> Response:
    """The ranked table as a file, as mofgap screen writes it: csv, xlsx, parquet or json."""
    content = await asyncio.to_thread(table_bytes, f".{kind}", job.rows(), job.config.columns)
    name = {"content-disposition": f'attachment; filename="mofgap.{kind}"'}
    kinds = {"csv": "text/csv; charset=utf-8", "json": "application/json"}
    return Response(content, media_type=kinds.get(kind, "application/octet-stream"), headers=name)


@_api.get("/screenings/{screening_id}/report", response_class=HTMLResponse, responses=LOST | NO_REPORT)
async def report(
    request: Request, job: Found, download: Annotated[bool, Query(description=_DOWNLOAD)] = False
) -> Response:
    """The screening as one page, with its structures in 3D, that needs no network."""
    if job.fault is not None:
        raise RequestError(409, job.fault.words)
    if job.state != "done":
        raise RequestError(409, "the screening is not done; ask again when it is")
    path = await job.report(request.app.state.queue)
    # The page gets an origin of its own: whatever runs in it cannot ask this server for anything.
    headers = {"content-security-policy": "sandbox allow-scripts allow-downloads; frame-ancestors 'self'"}
    name = "mofgap-report.html" if download else None
    return FileResponse(path, media_type="text/html", headers=headers, filename=name)


@_api.post("/screenings/{screening_id}/keep", responses=LOST_OR_FOREIGN)
async def keep(request: Request, job: Found) -> Progress:
    """Keep a screening for some hours, although nobody asks for it."""
    jobs: Jobs = request.app.state.jobs
    jobs.keep(job)
    return _progress(job)


@_api.delete("/screenings/{screening_id}", status_code=204, responses=LOST_OR_FOREIGN)
async def remove(request: Request, job: Found) -> Response:
    """Stop a screening, and remove it with its files."""
    jobs: Jobs = request.app.state.jobs
    await jobs.remove(job)
    return Response(status_code=204)


@_pages.get("/")
async def page(request: Request) -> HTMLResponse:
    """The page for screening."""
    return HTMLResponse(screen_page(request.app.state.settings))


@_pages.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The description of the interface, as a page of this server alone."""
    address = f"{request.url.scheme}://{request.headers['host']}"
    return HTMLResponse(docs_page(request.app.openapi(), address))


_ASSETS = assets()


@_pages.get("/assets/{name}")
async def asset(name: str) -> Response:
    """A file that pages load."""
    if name not in _ASSETS:
        raise RequestError(404, f"there is no file {name}")
    content, kind = _ASSETS[name]
    return Response(content, media_type=kind)
