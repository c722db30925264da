from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import TableError
from mofgap.crystals.write import write_cif
from mofgap.study.config import ComparisonConfig, DataConfig
from mofgap.study.dataset import read, skipped
from mofgap.study.engine import comparison as stages


def test_a_subset_of_graphs_is_those_graphs(finished: Path) -> None:
    store = read(finished).store
    rows = [7, 2, 11]
    some = store.subset(rows)
    assert len(some) == 3
    for place, row in enumerate(rows):
        for name in ("atomic_number", "neighbour", "distance", "weight"):
            assert torch.equal(getattr(some[place], name), getattr(store[row], name))


def test_training_rows_are_nested_and_do_not_hold_the_rows_of_other_parts(
    tiny_config: ComparisonConfig, finished: Path
) -> None:
    dataset = read(finished)
    rows = dataset.predicted(tiny_config, "split")
    assert dataset.rows("split", "train", 20) == rows.train[:20]
    assert len({*rows.train, *rows.all}) == len(rows.train) + len(rows.all)
    labels, _ = dataset.labels("split", 30)
    assert set(labels.frame.split) == {"train", "val"}


def test_too_few_rows_for_neighbours_are_told_before_anything_is_trained(
    tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    few = replace(tiny_config, recipe=replace(tiny_config.recipe, n_train=30))
    with pytest.raises(
        TableError,
        match=r"split: 30 .*prediction\.neighbour_correction",
    ):
        stages.prepare(few, tmp_path)
    stages.prepare(replace(few, prediction=replace(few.prediction, neighbour_correction=False)), tmp_path)


def test_a_csv_with_a_folder_of_cifs_gives_the_same_splits(
    tiny_config: ComparisonConfig, tmp_path: Path
) -> None:
    frame = pd.read_parquet(tiny_config.data.table)
    cifs, csv, table = tmp_path / "cifs", tmp_path / "labels.csv", tmp_path / "table.parquet"
    cifs.mkdir()
    for row in frame.itertuples():
        cell = np.asarray(row.cell_angstrom).reshape(3, 3)
        coords = np.asarray(row.frac_coords).reshape(-1, 3)
        crystal = Crystal(cell, coords, np.asarray(row.atomic_numbers), str(row.structure_id))
        (cifs / f"{row.structure_id}.cif").write_text(write_cif(crystal))
    frame[["structure_id", "gap_ev", "split", "group"]].to_csv(csv, index=False)
    stages.prepare(replace(tiny_config, data=DataConfig(table=csv, cifs=cifs)), tmp_path / "csv")
    refused = [line for line in skipped(tmp_path / "csv") if "no CIF of that name" in line]
    names = {line.partition(":")[0] for line in refused}  # atoms on top of each other
    assert len(names) < 10
    frame[~frame.structure_id.isin(names)].to_parquet(table)
    stages.prepare(replace(tiny_config, data=DataConfig(table=table)), tmp_path / "parquet")
    first, second = (read(tmp_path / name).frame for name in ("parquet", "csv"))
    parts = ["structure_id", "gap_ev", *(column for column in first if column.startswith("part:"))]
    pd.testing.assert_frame_equal(first[parts], second[parts])


def test_a_changed_cif_is_seen(tiny_config: ComparisonConfig, tmp_path: Path) -> None:
    """The dataset is made anew where a structure changed under the same name."""
    frame = pd.read_parquet(tiny_config.data.table)
    table, run = tmp_path / "table.parquet", tmp_path / "run"
    config = replace(tiny_config, data=DataConfig(table=table))
    contents = []
    for shift in (0.0, 0.1):
        moved = [
            np.asarray(c) + shift * (i == 0) * np.eye(1, len(c))[0] for i, c in enumerate(frame.frac_coords)
        ]
        frame.assign(frac_coords=moved).to_parquet(table)
        stages.prepare(config, run)
        contents.append(read(run).frame.set_index("structure_id").content)
    assert (contents[0] != contents[1]).sum() == 1
    shutil.rmtree(run)
