"""The stages of a screening: its listed inputs, its shards (see ``mofgap screen --shard``), its table."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mofgap.configuration import to_dict
from mofgap.screening.journal import OtherRunError, journal_path
from mofgap.screening.listing import listed_in
from mofgap.screening.origin import SUFFIX
from mofgap.screening.outcome import Outcome
from mofgap.screening.shard import Shard
from mofgap.shipped import CONFIG, model_folder
from mofgap.study.engine.config import RunConfig, ShardedScreening
from mofgap.study.engine.folder import RunError
from mofgap.study.engine.stage import Stage
from mofgap.study.engine.training import made_by
from mofgap.version import installed_version
from mofgap.whole_file import read_json, write_json

if TYPE_CHECKING:
    from mofgap.screening.run import InputRows, ScreeningRun

SHARDS = Path("shards/screening.csv")
"""What shards are named after, whatever the table is called."""

LISTED = Path("shards/screening.csv.inputs")
"""Folder with the inputs of each shard."""

OUTCOME = Path("shards/outcome.json")
"""How many structures were read, and what holds for all of them."""


def screening_stages(config: RunConfig) -> Iterator[Stage]:
    """A stage for each shard, for their table, and for its page; none where nothing is screened."""
    asked = config.screening
    if asked is None:
        return
    if asked.shards > 1:
        yield _list(asked)
    shards = [_screen(asked, index, made_by(config)) for index in range(1, asked.shards + 1)]
    yield from shards
    yield _gather(asked, shards)
    if config.report:
        yield _report(asked)


def _list(asked: ShardedScreening) -> Stage:
    """The inputs of all shards; one shard finds them itself."""
    return Stage(
        rule="list",
        work=_do_list,
        settings={"inputs": list(asked.inputs), "shards": asked.shards},
        modules=("mofgap.screening.listing",),
        writes=(f"{LISTED}/**",),
        files=asked.inputs,
    )


def _screen(asked: ShardedScreening, index: int, made: tuple[str, str] | None) -> Stage:
    """The stage of a shard. Its model is made by a stage of this run, or comes from outside."""
    settings = to_dict(asked)  # names of inputs count too: they are in the table
    # The settings of the table alone; models from outside count by what is in them.
    for name in ("level", "table", "part_rows"):
        del settings[name]
    settings |= {"model": made[1] if made else None}  # without its calibration, the run has another one
    settings |= {"window": _ends(asked), "mofgap": installed_version()}  # by which shards must agree
    models = [] if made else [model for model in asked.models if model is not None]
    configs = [str((model_folder(model, CONFIG) or Path(model)) / CONFIG) for model in models]
    shard = Shard(index, asked.shards)
    return Stage(
        rule="screen",
        item=f"{index}-of-{asked.shards}",
        work=partial(_do_screen, index=index),
        settings=settings,
        modules=("mofgap.screening.run",),
        writes=(f"{shard.path(SHARDS)}*",),
        files=(*asked.inputs, *configs),  # a listing has their names alone
        after=(*(("list",) if asked.shards > 1 else ()), *(made[:1] if made else ())),
        reads=(str(listed_in(LISTED, shard)), *((f"{made[1]}/**",) if made else ())),
        device=asked.device,
    )


def _gather(asked: ShardedScreening, shards: list[Stage]) -> Stage:
    table = glob.escape(asked.table)
    return Stage(
        rule="gather",
        work=_do_gather,
        settings={"table": asked.table, "part_rows": asked.part_rows},
        modules=("mofgap.screening.gather",),
        writes=(f"{table}/**" if asked.part_rows else table, f"{table}{SUFFIX}", str(OUTCOME)),
        after=tuple(shard.name for shard in shards),
    )


def _report(asked: ShardedScreening) -> Stage:
    return Stage(
        rule="report",
        item="screening",
        work=_do_report,
        settings={"window": _ends(asked)},
        modules=("mofgap.report.file",),
        writes=("screening.html",),
        after=("gather",),
    )


def _ends(asked: ShardedScreening) -> list[str] | None:
    """The ends of the window as texts, since JSON holds no infinite one."""
    return asked.window and list(map(str, asked.window))


def _asked(config: RunConfig) -> ShardedScreening:
    if config.screening is None:
        raise RunError("this run has no screening")
    return config.screening


def _do_list(config: RunConfig, run: Path) -> None:
    from mofgap.crystals.inputs import expand_inputs
    from mofgap.screening.listing import write_listing

    asked = _asked(config)
    write_listing(run / LISTED, expand_inputs(asked.inputs), asked.shards)


def _do_screen(config: RunConfig, run: Path, *, index: int) -> None:
    from mofgap.screening.run import ScreeningRun

    asked = _asked(config)
    if (made := made_by(config)) is not None:
        asked = replace(asked, model=str(run / made[1]))
    shard = Shard(index, asked.shards)
    target = shard.path(run / SHARDS)
    target.parent.mkdir(exist_ok=True)
    screening = ScreeningRun(
        inputs=(str(run / LISTED),) if asked.shards > 1 else asked.inputs,
        config=asked.in_processes(config.resources.screen.cpus),
        shard=shard,
        target=target,
    )
    try:
        screening.write(_rows(screening, journal_path(target)))
    except BrokenProcessPool as error:
        raise RunError("a worker process died, for want of memory or killed") from error


def _rows(screening: ScreeningRun, journal: Path) -> list[InputRows]:
    """The rows of a shard, which go on with what was kept, unless it was kept on another device."""
    try:
        return screening.rows(resume=journal.exists())
    except OtherRunError as error:
        stale = journal.replace(journal.with_name(f"{journal.name}.stale"))
        sys.stderr.write(f"moved {journal.name} to {stale.name}: {error}\n")
        return screening.rows(resume=False)


def outcome_of(run: Path) -> Outcome:
    """The counts of the screening of a finished run.

    Raises:
        RunError: If the file with the counts is missing or damaged.
    """
    try:
        return Outcome.from_json(read_json(run / OUTCOME))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run / OUTCOME} is damaged; the same command makes it anew") from error


def _do_gather(config: RunConfig, run: Path) -> None:
    from mofgap.screening.gather import gather

    asked = _asked(config)
    shards = [Shard(index, asked.shards).path(run / SHARDS) for index in range(1, asked.shards + 1)]
    with gather(shards, run) as found:
        if asked.part_rows is None:
            found.write(run / asked.table, command=config.command)
        else:
            found.write_parts(run / asked.table, asked.part_rows, config.command)
        write_json(run / OUTCOME, found.outcome.to_json())


def _do_report(config: RunConfig, run: Path) -> None:
    from mofgap.report.file import write_report
    from mofgap.screening.table import read_table

    asked = _asked(config)
    frame = read_table(run / asked.table)
    write_report(run / "screening.html", frame, source=asked.table, window=asked.window)
