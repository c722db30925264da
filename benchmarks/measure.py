"""What the benchmarks share: the example CIFs, a clock, and tables on standard output."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mofgap.crystals.dataset import TableError, cached_store
from mofgap.gap.posterior import Posterior, predict_store
from mofgap.gap.predictor import GapPredictor, Predictions, load_model
from mofgap.screening.levels import MODELS
from mofgap.shipped import shipped_folder
from mofgap.training.labels import are_unbalanced, read_labels

T = TypeVar("T")


def example_texts(limit: int | None = None) -> list[str]:
    """Texts of the example CIFs, in the order of their names; ``limit`` takes some, evenly spread."""
    paths = sorted(shipped_folder("examples").glob("*.cif"))
    if limit is not None and limit < len(paths):
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, limit).round().astype(int)]
    return [path.read_text(encoding="utf-8") for path in paths]


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows a docstring as it is written."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add ``--model``."""
    parser.add_argument("--model", default=MODELS["pbe"], help="shipped model or model folder")


def add_table(
    parser: argparse.ArgumentParser, target: str | None = "pbe_gap_ev", *, required: bool = True
) -> None:
    """Add ``--table``, which the variable MOFGAP_TABLE can name too, and ``--target`` with its default."""
    known = os.environ.get("MOFGAP_TABLE")
    words, required = "parquet table; MOFGAP_TABLE names it too", required and known is None
    parser.add_argument("--table", type=Path, default=known, required=required, help=words)
    if target is not None:
        parser.add_argument("--target", default=target, help="column of the reference gaps, eV")


def predicting_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser, see `parser_of`, with ``--model``, ``--table``, ``--target`` and ``--cache``."""
    parser = parser_of(doc)
    add_model(parser)
    add_table(parser)
    parser.add_argument("--cache", type=Path, help="folder of cached graphs")
    return parser


def read_rows(path: Path, target: str, needed: Sequence[str]) -> pd.DataFrame:
    """The labelled rows of a table, as training reads them; some splits must not be empty.

    Raises:
        SystemExit: Naming the file and what it lacks.
    """
    try:
        return read_labels(path, None, target, needed=needed).frame
    except TableError as error:
        raise SystemExit(str(error)) from None


def read_splits(path: Path, target: str, splits: Sequence[str]) -> pd.DataFrame:
    """The labelled rows of some splits of a table, none of which may be empty, see `read_rows`."""
    frame = read_rows(path, target, splits)
    return frame[frame.split.isin(splits)]


def predicted(
    predictor: GapPredictor, frame: pd.DataFrame, cache: Path | None
) -> tuple[Posterior, Predictions]:
    """What a model says of rows, before calibration and after; ``cache`` is the folder of their graphs."""
    store = cached_store(frame, predictor.model.graph_config, cache)
    found = predict_store(predictor.model, store, range(len(frame)))
    numbers = frame.atomic_numbers.tolist()
    return found, predictor.calibrated(found, numbers, unbalanced=are_unbalanced(frame))


def at_most(frame: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """The rows, or so many of them, chosen at random."""
    return frame if limit is None or limit >= len(frame) else frame.sample(limit, random_state=0)


def one_thread() -> None:
    """Let torch and numpy compute on one core."""
    torch.set_num_threads(1)
    threadpool_limits(1)


def loaded(model: str) -> GapPredictor:
    """A shipped model or the one of a folder, on the CPU, after `one_thread`."""
    one_thread()
    return load_model(model, device="cpu")


def cpu_seconds(
    tasks: Mapping[str, Callable[[T], object]], items: Sequence[T], repeats: int
) -> dict[str, NDArray[np.float64]]:
    """CPU time of each task on each item, which other programs on the machine hardly disturb.

    Each task goes through all items, as it would in a program of its own, then the next takes its turn; their
    order changes with every repeat, and a first round warms up and is not counted.

    Returns:
        (n_items,) medians over the repeats by task, seconds. The time of all threads is added up.
    """
    found = {name: np.empty((repeats + 1, len(items))) for name in tasks}
    names = list(tasks)
    for repeat in range(repeats + 1):
        for name in np.roll(names, repeat).tolist():
            for i, item in enumerate(items):
                begun = time.process_time()
                tasks[name](item)
                found[name][repeat, i] = time.process_time() - begun
    return {name: np.median(seconds[1:], axis=0) for name, seconds in found.items()}


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns, numbers to four digits."""
    cells = [[f"{c:.4g}" if isinstance(c, float) else str(c) for c in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    for row in cells:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *rest]))


def print_times(seconds: Mapping[str, NDArray[np.float64]], reference: str) -> None:
    """Print the mean time of each task and its ratio to a reference."""
    base = seconds[reference].mean()
    rows = [[name, 1e3 * float(s.mean()), float(s.mean() / base)] for name, s in seconds.items()]
    print_table(["", "ms a structure", f"times {reference}"], rows)
