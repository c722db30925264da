"""A small comparison whose outputs are damaged once it is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mofgap.study.engine.config import RunConfig

DoStages = Callable[[RunConfig, Path], list[str]]
WEIGHTS = "members/split/lora-seed0/model.safetensors"
PREDICTIONS = "predictions/split/lora-seed0.parquet"
SCORES = "comparison.parquet"


@pytest.fixture(scope="module")
def done(small: RunConfig, do_stages: DoStages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    do_stages(small, run)
    return run


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "stage", "damage"),
    [
        (WEIGHTS, "train/split/lora-seed0", flip),
        (PREDICTIONS, "predict/split/lora-seed0", Path.unlink),
        (SCORES, "compare", lambda path: path.write_bytes(path.read_bytes()[:100])),
    ],
)
def test_a_damaged_output_is_made_again_as_it_was(
    small: RunConfig,
    do_stages: DoStages,
    done: Path,
    name: str,
    stage: str,
    damage: Callable[[Path], object],
) -> None:
    path = done / name
    before = path.read_bytes()
    damage(path)
    damaged = path.read_bytes() if path.exists() else None
    assert stage in do_stages(small, done)
    assert path.read_bytes() == before
    if damaged is not None:
        assert damaged in [kept.read_bytes() for kept in done.glob(f"stale/{stage}/*/{name}")]
    assert do_stages(small, done) == []
