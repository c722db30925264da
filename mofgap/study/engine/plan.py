"""The stages of a run, in order, from its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mofgap.study.engine.comparison import comparison_stages
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.folder import RunError
from mofgap.study.engine.screening import screening_stages
from mofgap.study.engine.stage import Stage
from mofgap.study.engine.training import training_stages


def plan(config: RunConfig, run: Path, *, screening: bool = True) -> tuple[Stage, ...]:
    """All stages of a run, each after those that it needs; those of its ``screening`` are among them or not.

    Nothing is read from the folder of the run.
    """
    return (
        *training_stages(config),
        *comparison_stages(config, run),
        *(screening_stages(config) if screening else ()),
    )


def stage_named(stages: Iterable[Stage], name: str) -> Stage:
    """The stage of a name.

    Raises:
        RunError: If no stage in ``stages`` has the name ``name``.
    """
    known = {stage.name: stage for stage in stages}
    if name not in known:
        raise RunError(f"no stage {name!r}; there are {', '.join(known)}")
    return known[name]
