from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import (
    GraphStore,
    TableError,
    cached_store,
    read_table,
    table_crystals,
)
from mofgap.crystals.graph import GraphConfig

CONFIG = GraphConfig(6, 5.0)


def make_crystals(n: int = 6) -> list[Crystal]:
    rng = np.random.default_rng(7)
    sizes = rng.integers(1, 9, n)
    return [
        Crystal(
            np.eye(3) * 6 + rng.normal(0, 0.3, (3, 3)), rng.random((k, 3)), rng.integers(1, 100, k), f"s{i}"
        )
        for i, k in enumerate(sizes)
    ]


def make_frame(crystals: list[Crystal]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "structure_id": [c.structure_id for c in crystals],
            "cell_angstrom": [c.cell.ravel() for c in crystals],
            "atomic_numbers": [c.atomic_numbers for c in crystals],
            "frac_coords": [c.frac_coords.ravel() for c in crystals],
        }
    )


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    crystals = make_crystals()
    make_frame(crystals).rename(columns={"structure_id": "qmof_id"}).to_parquet(tmp_path / "t.parquet")
    for mine, theirs in zip(crystals, table_crystals(read_table(tmp_path / "t.parquet")), strict=True):
        assert mine.structure_id == theirs.structure_id
        np.testing.assert_array_equal(mine.cell, theirs.cell)
        np.testing.assert_array_equal(mine.frac_coords, theirs.frac_coords)
        np.testing.assert_array_equal(mine.atomic_numbers, theirs.atomic_numbers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="structure_id"), "structure_id, qmof_id"),
        (lambda f: f.drop(columns=["frac_coords", "cell_angstrom"]), "cell_angstrom, frac_coords"),
        (lambda f: f.assign(structure_id="twice"), "twice"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    change(make_frame(make_crystals())).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(TableError, match=message) as error:
        read_table(tmp_path / "bad.parquet")
    assert "bad.parquet" in str(error.value)


def test_graphs_are_cached_under_what_shaped_them(tmp_path: Path) -> None:
    frame = make_frame(make_crystals())

    def equal(a: GraphStore, b: GraphStore) -> bool:
        return all(torch.equal(a.arrays[name], b.arrays[name]) for name in a.arrays)

    first = cached_store(frame, CONFIG, tmp_path)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    assert equal(cached_store(frame, CONFIG, tmp_path), first)
    assert equal(cached_store(frame, CONFIG, None), first)
    assert file.stat().st_mtime_ns == written
    cached_store(frame, GraphConfig(7, 5.0), tmp_path)
    moved = frame.assign(frac_coords=[x + 0.01 for x in frame.frac_coords])
    cached_store(moved, CONFIG, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_damaged_graphs_are_computed_again(tmp_path: Path) -> None:
    frame, rng = make_frame(make_crystals()), np.random.default_rng(0)
    expected = cached_store(frame, CONFIG, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for place in [*rng.integers(len(whole), size=30).tolist(), len(whole) - 1]:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
        found = cached_store(frame, CONFIG, tmp_path)
        assert all(torch.equal(found.arrays[name], values) for name, values in expected.arrays.items())
    assert file.read_bytes() == whole
