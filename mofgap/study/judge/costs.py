"""The size of each way of predicting, which is a result, and its cost, which differs between runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mofgap.shipped import COST
from mofgap.study.layout import SIZE, Layout
from mofgap.study.planned import Prediction
from mofgap.whole_file import read_json


def sizes(layout: Layout, wanted: Sequence[Prediction]) -> pd.DataFrame:
    """Trained parameters over all members, training structures and epochs, by `scores.KEYS`."""
    rows = []
    for about, members, _ in _predicted(layout, wanted):
        files = [read_json(layout.member(name) / SIZE) for name in members]
        found = {"n_trainable": sum(_values(files, "n_trainable"))}
        rows.append(about | found | {name: _values(files, name)[0] for name in ("n_train", "epochs")})
    return pd.DataFrame(rows)


def costs(layout: Layout, wanted: Sequence[Prediction]) -> pd.DataFrame:
    """Seconds and memory of the trainings, over all members, and milliseconds a structure to predict.

    By `scores.KEYS`. What is not known, since a file was deleted, is NaN.
    """
    rows = []
    for about, members, name in _predicted(layout, wanted):
        files = [read_json(layout.member(member) / COST) for member in members]
        cost = {each: sum(_values(files, each)) for each in ("train_seconds", "train_cpu_seconds")}
        cost["peak_memory_mb"] = float(np.max(_values(files, "peak_memory_mb")))
        ms = read_json(layout.prediction_cost(name)).get("predict_ms", {})
        rows.append(about | cost | {"predict_ms": ms.get(f"{about['method']}@{about['n_samples']}")})
    return pd.DataFrame(rows)


def _values(files: Sequence[dict[str, Any]], name: str) -> list[float]:
    """A value of each of some files; NaN where one lacks it, or where there are no files."""
    return [float(file.get(name, np.nan)) for file in files] or [np.nan]


def _predicted(
    layout: Layout, wanted: Sequence[Prediction]
) -> Iterator[tuple[dict[str, Any], tuple[str, ...], str]]:
    """Keys, trainings and name of the file of each way of predicting."""
    for each in wanted:
        frame = pd.read_parquet(layout.prediction(each.name), columns=["method", "n_samples"])
        for method, n in frame.drop_duplicates().itertuples(index=False):
            # The first n of an ensemble's trainings.
            members = each.members[:n] if each.predictions else each.members
            about = {"split": each.split, "method": method, "variant": each.variant, "seed": each.seed}
            yield about | {"n_samples": int(n)}, members, each.name
