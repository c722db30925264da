"""The stages of a screening, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import mofgap
from mofgap.screening.checked_line import content_of, line_of
from mofgap.screening.journal import Journal, journal_path
from mofgap.screening.origin import origin_of
from mofgap.screening.table import read_table
from mofgap.shipped import shipped_folder
from mofgap.study.engine.config import RunConfig, ShardedScreening
from mofgap.study.engine.screening import screening_stages


@pytest.mark.parametrize(
    ("level", "models"),
    [("pbe", {"qmof-pbe"}), ("hse06", {"qmof-hse06"}), (None, {"qmof-pbe", "qmof-hse06"})],
)
def test_a_level_takes_its_models_as_a_screening_does(
    tmp_path: Path, level: str | None, models: set[str]
) -> None:
    example = str(min(shipped_folder("examples").glob("*.cif")))
    asked = ShardedScreening(inputs=(example,), level=level)
    config = RunConfig("levels", screening=asked, report=False)
    stages = list(screening_stages(config))
    read = {Path(name).parent.name for name in stages[0].files if name.endswith("config.json")}
    assert read == models
    for stage in stages:
        stage.work(config, tmp_path)
    found, alone = pd.read_csv(tmp_path / asked.table), mofgap.screen([example], level=level)
    assert list(found.columns) == list(alone.columns)
    assert set(found.model) == {"qmof-pbe" if level == "pbe" else "qmof-hse06"}
    assert found.gap_ev[0] == pytest.approx(alone.gap_ev[0], abs=1e-4)


def test_a_window_may_have_an_open_end() -> None:
    asked = ShardedScreening(inputs=("a.cif",), window=(0.5, float("inf")))
    for stage in screening_stages(RunConfig("open", screening=asked)):
        json.dumps(stage.settings, allow_nan=False)


@pytest.mark.parametrize(("table", "part_rows"), [("screening.csv", None), ("screening.parquet", 1)])
def test_the_record_of_a_table_says_how_structures_were_read(
    tmp_path: Path,
    model_folder: Path,
    write_cifs: Callable[[Path, int], list[Path]],
    table: str,
    part_rows: int | None,
) -> None:
    """Selections and reports read them again by it."""
    inputs = tuple(map(str, write_cifs(tmp_path / "in", 2)))
    asked = ShardedScreening(
        inputs=inputs, model=str(model_folder), table=table, part_rows=part_rows, primitive_cell=False
    )
    config = RunConfig("small", screening=asked, report=False)
    stages = list(screening_stages(config))
    for stage in stages:
        stage.work(config, tmp_path)
    found = origin_of(read_table(tmp_path / table))
    assert found["command"].startswith("mofgap run config.yaml  # ") and "small" in found["command"]
    assert (found["n_rows"], found["primitive_cell"]) == (2, False)
    assert f"{table}.origin" in stages[-1].writes


def test_a_shard_that_was_begun_on_another_device_starts_again(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> None:
    """The nodes of a cluster differ, and a run has no --force."""
    asked = ShardedScreening(
        inputs=tuple(map(str, write_cifs(tmp_path / "in", 2))), model=str(model_folder), shards=2
    )
    config = RunConfig("small", screening=asked, report=False)
    listed, first, second, gathered = screening_stages(config)
    for stage in (listed, first, second):
        stage.work(config, tmp_path)
    shards = sorted((tmp_path / "shards").glob("*.jsonl"))
    header, *rows = [content_of(line) for line in shards[1].read_bytes().splitlines(keepends=True)]
    journal = journal_path(shards[1])
    Journal(
        journal, {name: header[name] for name in header if name != "shard"} | {"device": "cuda"}, resume=False
    ).close()
    second.work(config, tmp_path)
    assert not journal.exists() and journal.with_name(f"{journal.name}.stale").exists()
    shards[0].write_bytes(b"".join(map(line_of, [header | {"shard": [1, 2], "device": "cuda"}, *rows])))
    gathered.work(config, tmp_path)
    assert origin_of(read_table(tmp_path / asked.table))["device"] == "cpu and cuda"
