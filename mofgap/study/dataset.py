"""The rows of a comparison: labels, splits and graphs, made once and shared by all methods."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from mofgap.configuration import digest
from mofgap.crystals.dataset import TableError, cached_store, table_crystals
from mofgap.crystals.graph import GraphConfig
from mofgap.crystals.store import GraphStore
from mofgap.gap.correction import N_NEIGHBOURS
from mofgap.study.config import ComparisonConfig, DataConfig
from mofgap.study.layout import GRAPHS, RECORD, TABLE, Layout, write_parquet
from mofgap.study.planned import Member, most_trained
from mofgap.study.splits import UNUSED, assign, order
from mofgap.training.labels import Labels, read_labels
from mofgap.whole_file import read_json, sha256_of, whole_file, write_json


@dataclass(frozen=True)
class SplitRows:
    """Rows of a dataset that one split learns from and predicts, as positions.

    Attributes:
        train: The training rows.
        val: Predicted for calibration.
        test: Predicted for the scores.
        left_out: Tested in addition to them: rows with an element that training never saw.
    """

    train: list[int]
    val: list[int]
    test: list[int]
    left_out: list[int]

    @property
    def all(self) -> list[int]:
        """The rows that are predicted, in order."""
        return [*self.val, *self.test, *self.left_out]

    @property
    def part(self) -> list[str]:
        """``val`` or ``test`` of each predicted row."""
        return ["val"] * len(self.val) + ["test"] * (len(self.test) + len(self.left_out))

    @property
    def is_left_out(self) -> list[bool]:
        """Whether each predicted row holds the element."""
        return [False] * (len(self.val) + len(self.test)) + [True] * len(self.left_out)


@dataclass(frozen=True, eq=False)
class Dataset:
    """The rows of a comparison, with graphs and labels.

    Attributes:
        frame: ``structure_id``, ``gap_ev``, ``atomic_numbers``, ``content`` (a hash of the structure), for
            each split a column ``part:NAME``, and ``group:NAME`` where the table has groups. In the order
            of `splits.order`.
        graphs: Path of the graphs of these rows.
    """

    frame: pd.DataFrame
    graphs: Path

    @cached_property
    def store(self) -> GraphStore:
        """The graphs of the rows."""
        return GraphStore(**load_file(self.graphs))

    @cached_property
    def gap_ev(self) -> NDArray[np.float64]:
        """(n,) labels, eV."""
        return self.frame.gap_ev.to_numpy(dtype=np.float64)

    def rows(self, split: str, part: str, n: int | None = None) -> list[int]:
        """Rows of a part, the first ``n``; all of val or test where these have fewer.

        Raises:
            TableError: If ``part`` is train and ``split`` has fewer than ``n`` training structures.
        """
        found = np.flatnonzero(self.frame[f"part:{split}"] == part).tolist()
        if n is not None and part == "train" and n > len(found):
            raise TableError(f"split {split} has {len(found)} training structures, not {n}")
        return found[:n]

    def predicted(self, config: ComparisonConfig, split: str) -> SplitRows:
        """The rows of a split that the recipe trains on, and those that are predicted."""
        train = self.rows(split, "train", config.recipe.n_train)
        val, test = self.rows(split, "val", config.prediction.n_val), self.rows(split, "test")
        return SplitRows(train, val, test, self.rows(split, "left_out"))

    def labels(self, split: str, n_train: int | None) -> tuple[Labels, list[int]]:
        """Training and validation rows of a split, and their positions in the frame; no test rows."""
        train, val = self.rows(split, "train", n_train), self.rows(split, "val")
        rows = [*train, *val]
        frame = self.frame.iloc[rows][["structure_id", "gap_ev", "atomic_numbers"]].reset_index(drop=True)
        frame["split"] = ["train"] * len(train) + ["val"] * len(val)
        return Labels(frame, "gap_ev", ()), rows

    def content(self, rows: Sequence[int]) -> str:
        """A hash of the structures and labels of some rows, in order."""
        some = self.frame.iloc[list(rows)]
        return digest(some.structure_id.tolist(), some.content.tolist(), some.gap_ev.tolist())


def prepare(config: ComparisonConfig, run: Path, graph: GraphConfig, trainings: Sequence[Member]) -> Dataset:
    """Read the table, deal out the splits and build the graphs, with rows enough for some trainings.

    Raises:
        TableError: If the table cannot be read, lacks a column, or has too few structures for a split or a
            training. The message names the column or split.
    """
    folder, data = Layout(run).dataset, config.data
    columns = [name for split in config.splits.values() for name in (split.column, split.group)]
    labels = read_labels(data.table, data.cifs, data.target, keep=columns, seed=data.seed, needed=())
    frame = _table(config, labels.frame, most_trained(config, trainings))
    _check_enough(config, trainings, Dataset(frame, folder / GRAPHS))
    store = cached_store(frame, graph, data.cache)
    with whole_file(folder / GRAPHS) as partial:
        save_file(store.arrays, partial)
    kept = ["structure_id", "gap_ev", "atomic_numbers", "content"]
    kept += [name for name in frame.columns if name.startswith(("part:", "group:"))]
    write_parquet(folder / TABLE, frame[kept])
    record = {"table_sha256": sha256_of(data.table), "skipped": list(labels.skipped)}
    write_json(folder / RECORD, record)
    return read(run)


def _check_enough(config: ComparisonConfig, trainings: Sequence[Member], dataset: Dataset) -> None:
    """Refuse trainings and neighbour corrections from too few structures, before the graphs are built."""
    recipes = [(split, config.recipe) for split in config.splits]
    recipes += [(each.split, each.recipe) for each in trainings]
    for split, recipe in recipes:
        try:
            n_train = len(dataset.rows(split, "train", recipe.n_train))
        except TableError as error:
            cure = "lower n_train of the recipe or the ablation"
            raise TableError(f"{config.data.table}: {error}: {cure}") from error
        if config.prediction.neighbour_correction and recipe is config.recipe and n_train <= N_NEIGHBOURS:
            few = f"{split}: {n_train} training structures"
            raise TableError(f"{few}; prediction.neighbour_correction needs more than {N_NEIGHBOURS}")


def skipped(run: Path) -> list[str]:
    """One line for each structure or label of the table that could not be used, and why."""
    return list(read_json(Layout(run).dataset / RECORD).get("skipped", []))


def read(run: Path) -> Dataset:
    """The dataset that `prepare` made.

    Raises:
        TableError: If ``run`` holds no dataset: `prepare` makes it.
    """
    folder = Layout(run).dataset
    if not read_json(folder / RECORD):
        raise TableError(f"{folder} holds no dataset: prepare it first")
    return Dataset(pd.read_parquet(folder / TABLE), folder / GRAPHS)


def _table(config: ComparisonConfig, frame: pd.DataFrame, most: Mapping[str, int | None]) -> pd.DataFrame:
    """The labelled rows that some split needs, in the order of their hashes."""
    data = config.data
    frame = frame.assign(gap_ev=frame[data.target])
    frame = frame.iloc[order(frame.structure_id.tolist(), data.seed)].reset_index(drop=True)
    parts = {}
    for name, split in config.splits.items():
        try:
            parts[name] = _capped(assign(frame, split, data.seed), most[name], data)
        except TableError as error:
            raise TableError(f"{data.table}: comparison.splits.{name}: {error}") from error
    groups = {
        f"group:{split.group}": frame[split.group] for split in config.splits.values() if split.group in frame
    }
    frame = frame.assign(**groups, **{f"part:{name}": part for name, part in parts.items()})
    used = np.any([part != UNUSED for part in parts.values()], axis=0)
    frame = frame[used].reset_index(drop=True)
    digests = [hashlib.sha256(crystal.content).hexdigest() for crystal in table_crystals(frame)]
    return frame.assign(content=[each[:16] for each in digests])


def _capped(part: pd.Series, n_train: int | None, data: DataConfig) -> pd.Series:
    """The first rows of each part; as many rows with the element as other test rows."""
    most = {"train": n_train, "val": data.n_val, "test": data.n_test}
    most["left_out"] = min(data.n_test or len(part), int((part == "test").sum()))
    rank = part.groupby(part).cumcount()
    return part.where(rank < part.map(lambda name: most.get(name) or len(part)), UNUSED)
