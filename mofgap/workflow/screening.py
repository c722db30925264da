"""The stages of a screening: shards, which ``mofgap screen --shard`` makes alike by hand, and their table."""

from __future__ import annotations

import glob
from functools import partial
from pathlib import Path

import typer

from mofgap.configuration import to_dict
from mofgap.screening.levels import models_of
from mofgap.screening.shard import Shard
from mofgap.shipped import shipped_folder
from mofgap.workflow.config import RunConfig, ScreeningConfig
from mofgap.workflow.folder import RunError
from mofgap.workflow.stage import Stage

SHARDS = Path("shards/screening.csv")
"""What shards are named after, whatever the table is called."""


def screen_stages(asked: ScreeningConfig) -> list[Stage]:
    """One stage a shard."""
    return [_screen(asked, index) for index in range(1, asked.shards + 1)]


def _screen(asked: ScreeningConfig, index: int) -> Stage:
    settings = to_dict(asked)  # names of inputs count too: they are in the table
    # The settings of the table alone; models count by what is in them.
    for name in ("level", "model", "table"):
        del settings[name]
    models = [str(_model_config(str(model))) for model in models_of(asked.level, asked.model) if model]
    return Stage(
        rule="screen",
        item=f"{index}-of-{asked.shards}",
        work=partial(_do_screen, index=index),
        settings=settings,
        modules=("mofgap.cli.screening_run", "mofgap.screening.shard"),
        writes=(f"{_shard_path(asked, index)}*",),
        files=(*asked.inputs, *models),
    )


def gather_stage(asked: ScreeningConfig, shards: list[Stage]) -> Stage:
    """The table of all shards."""
    return Stage(
        rule="gather",
        work=_do_gather,
        settings={"table": asked.table},
        modules=("mofgap.screening.shard", "mofgap.screening.rank", "mofgap.screening.table"),
        writes=(glob.escape(asked.table),),
        after=tuple(shard.name for shard in shards),
    )


def _shard_path(asked: ScreeningConfig, index: int) -> Path:
    return Shard(index, asked.shards).path(SHARDS)


def _model_config(name: str) -> Path:
    """The file of a model that holds the hashes of all others."""
    folders = (Path(name), shipped_folder("models") / name)
    return next((f for f in folders if (f / "config.json").exists()), folders[0]) / "config.json"


def _asked(config: RunConfig) -> ScreeningConfig:
    if config.screening is None:
        raise RunError("this run has no screening")
    return config.screening


def _do_screen(config: RunConfig, run: Path, *, index: int) -> None:
    from mofgap.cli.exits import ALL_READ, NOTHING_DONE, SOME_FAILED
    from mofgap.cli.screening_run import Run

    asked, output = _asked(config), run / SHARDS
    output.parent.mkdir(exist_ok=True)
    target = run / _shard_path(asked, index)
    begun = target.with_name(f"{target.name}.partial.jsonl").exists()
    shard = Shard(index, asked.shards)
    screening = Run(
        inputs=asked.inputs,
        window=asked.window,
        rank_by=asked.rank_by,
        top=asked.top,
        output=output,
        model=asked.model,
        level=asked.level,
        uncertainty=asked.uncertainty,
        samples=asked.samples,
        seed=asked.seed,
        max_atoms=asked.max_atoms,
        disorder=asked.disorder,
        coverage=asked.coverage,
        novel=asked.novelty,
        workers=config.resources.screen.cpus,
        device=asked.device,
        batch_atoms=asked.batch_atoms,
        shard=shard,
        resume=begun,
        force=not begun,
    )
    try:
        screening.execute()
    except typer.Exit as end:
        # A shard of nothing but unreadable files is done all the same; its rows say why.
        if end.exit_code not in (ALL_READ, SOME_FAILED) and not (
            end.exit_code == NOTHING_DONE and target.exists()
        ):
            raise RunError(f"screening ended with exit code {end.exit_code}") from end


def _do_gather(config: RunConfig, run: Path) -> None:
    from mofgap.screening.shard import gather

    asked = _asked(config)
    shards = [run / _shard_path(asked, index) for index in range(1, asked.shards + 1)]
    gather(shards).write(run / asked.table)
