"""Predictions of every method on a split's val and test rows, before they are cut at zero and calibrated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import read
from mofgap.study.layout import Layout, write_parquet
from mofgap.study.members import member, prediction
from mofgap.study.methods.method import Estimated, PredictionTask, method_of
from mofgap.whole_file import finite, write_json


def predict(config: ComparisonConfig, run: Path, name: str) -> None:
    """Make the prediction with the name ``name``, and write its table.

    Raises:
        ConfigurationError: If ``config`` has no prediction with the name ``name``.
        ModelError: If the folder of a training that the prediction needs is missing or damaged.
        TableError: If ``run`` holds no dataset.
    """
    wanted, dataset, layout = prediction(config, name), read(run), Layout(run)
    rows = dataset.predicted(config, wanted.split)
    recipe = member(config, wanted.members[0]).recipe if wanted.members else config.recipe
    method = method_of(wanted.method)
    draws = method.draws(wanted, config.prediction)
    task = PredictionTask(config, layout, dataset, wanted, rows, recipe, draws)
    found = method.predict(task)
    table = _table(task, found)
    if method.kind == "published":
        table = table[table.gap_ev.notna()].reset_index(drop=True)
    write_parquet(layout.prediction(name), table)
    ms = {f"{each}@{n}": round(e.ms, 4) for (each, n), e in found.items()}
    write_json(layout.prediction_cost(name), {"predict_ms": finite(ms)})


def _table(task: PredictionTask, found: Estimated) -> pd.DataFrame:
    """The estimates as rows of the long table."""
    rows, wanted = task.rows, task.wanted
    shared = pd.DataFrame(
        {
            "split": wanted.split,
            "part": rows.part,
            "variant": wanted.variant,
            "seed": wanted.seed,
            "id": task.dataset.frame.structure_id.iloc[rows.all].to_numpy(),
            "is_left_out": rows.is_left_out,
            "gap_dft_ev": task.dataset.gap_ev[rows.all],
        }
    )
    parts = [
        shared.assign(
            method=name,
            n_samples=n,
            gap_ev=estimates.gap_ev,
            epistemic_std_ev=estimates.epistemic_std_ev,
            aleatoric_std_ev=estimates.aleatoric_std_ev,
        )
        for (name, n), estimates in found.items()
    ]
    return pd.concat(parts, ignore_index=True)
