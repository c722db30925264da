"""Predictions of every method on a split's val and test rows, before they are cut at zero and calibrated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mofgap.balora.sampling import Kind
from mofgap.gap.folder import read_model
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import fit_correction
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import Dataset, Rows, read
from mofgap.study.layout import Layout, read_json, write_parquet
from mofgap.study.members import Member, Prediction, member, prediction
from mofgap.study.methods import passes
from mofgap.study.methods.baselines import composition, published, the_mean
from mofgap.study.methods.laplace import fit_laplace, pooled_of
from mofgap.study.methods.names import ENSEMBLE, NEIGHBOURS
from mofgap.study.methods.passes import Estimates, Source
from mofgap.whole_file import write_json

KINDS: tuple[Kind, ...] = ("weights", "rows")


@dataclass(frozen=True, eq=False)
class Task:
    """One file of predictions to be made.

    Attributes:
        config: The comparison.
        layout: Its run folder.
        dataset: Its rows.
        wanted: What is predicted.
        rows: Which rows.
    """

    config: ComparisonConfig
    layout: Layout
    dataset: Dataset
    wanted: Prediction
    rows: Rows

    @property
    def member(self) -> Member:
        """The training it rests on."""
        return member(self.config, self.wanted.members[0])

    def model(self) -> GapModel:
        """The trained model, on the device that is asked for."""
        cuda = torch.cuda.is_available() and self.config.compute.device != "cpu"
        model, *_ = read_model(self.layout.member(self.wanted.members[0]))
        return model.to("cuda" if cuda else "cpu")

    @property
    def draws(self) -> tuple[int, ...]:
        """Numbers of draws."""
        return self.wanted.draws(self.config.prediction)

    @property
    def is_corrected(self) -> bool:
        """Whether it is also predicted with the neighbour correction."""
        return self.wanted.is_corrected(self.config.prediction)


def predict(config: ComparisonConfig, run: Path, name: str) -> None:
    """Predict what a name stands for.

    Raises:
        ConfigurationError: There is no such prediction.
        ModelError: A training that it rests on is not there.
    """
    wanted, dataset, layout = prediction(config, name), read(run), Layout(run)
    rows = dataset.predicted(wanted.split, config.recipe.n_train, config.prediction.n_val)
    task = Task(config, layout, dataset, wanted, rows)
    found = _METHODS[wanted.source](task)
    write_parquet(layout.prediction(name), _table(task, found))
    ms = {f"{method}@{n}": round(e.ms, 4) if np.isfinite(e.ms) else None for (method, n), e in found.items()}
    write_json(layout.prediction_record(name), {"predict_ms": ms})


def _table(task: Task, found: dict[Source, Estimates]) -> pd.DataFrame:
    """The estimates as rows of the long table, without those that nobody published a gap of."""
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
            method=method,
            n_samples=n,
            gap_ev=estimates.gap_ev,
            epistemic_std_ev=estimates.epistemic_std_ev,
            aleatoric_std_ev=estimates.aleatoric_std_ev,
        )
        for (method, n), estimates in found.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[table.gap_ev.notna()].reset_index(drop=True) if wanted.source == "published" else table


Method = Callable[[Task], dict[Source, Estimates]]
Estimate = Callable[[Task, GapModel], dict[Source, Estimates]]


def _trained(estimate: Estimate) -> Method:
    """What a model says as it was trained, and with the neighbour correction where that is asked for."""

    def both(task: Task) -> dict[Source, Estimates]:
        model = task.model()
        found = estimate(task, model)
        if task.is_corrected:
            rows = task.rows.train
            batch_atoms = task.config.prediction.batch_atoms
            learnt = task.dataset.store.batches(rows, batch_atoms, model.device)
            fit_correction(model, learnt, torch.as_tensor(task.dataset.gap_ev[rows]))
            found |= {(method + NEIGHBOURS, n): each for (method, n), each in estimate(task, model).items()}
        return found

    return both


def _balora(task: Task, model: GapModel) -> dict[Source, Estimates]:
    asked = task.config.prediction
    ablated = task.wanted.variant or model.correction is not None
    return passes.bayesian(
        model,
        task.dataset.store,
        task.rows.all,
        asked.batch_atoms,
        kinds=(task.member.recipe.noise,) if ablated else KINDS,
        counts=task.draws,
        seed=asked.seed,
    )


def _dropout(task: Task, model: GapModel) -> dict[Source, Estimates]:
    asked = task.config.prediction
    return passes.dropping(
        model,
        task.dataset.store,
        task.rows.all,
        asked.batch_atoms,
        rate=task.member.recipe.dropout,
        counts=task.draws,
        seed=asked.seed,
    )


def _plain(task: Task, model: GapModel) -> dict[Source, Estimates]:
    batch_atoms = task.config.prediction.batch_atoms
    return passes.mean(model, task.dataset.store, task.rows.all, batch_atoms, task.member.method)


def _laplace(task: Task, model: GapModel) -> dict[Source, Estimates]:
    """The spread of the last layer's posterior around the model's own gap."""
    store, rows = task.dataset.store, task.rows
    batch_atoms = task.config.prediction.batch_atoms
    train = pooled_of(model, store, rows.train, batch_atoms)
    gap_ev = torch.as_tensor(task.dataset.gap_ev[rows.train], dtype=train.dtype, device=train.device)
    fitted = fit_laplace(model, train, gap_ev)
    (own,) = passes.mean(model, store, rows.all, batch_atoms, "laplace").values()
    clock = passes.clock()
    spread = fitted.epistemic_std_ev(pooled_of(model, store, rows.all, batch_atoms))
    own.epistemic_std_ev = spread.detach().cpu().double().numpy()
    own.ms = max(own.ms, 1e3 * clock() / len(rows.all))
    return {("laplace", 0): own}


def _ensemble(task: Task) -> dict[Source, Estimates]:
    """The first 1, 2, ... k members: the mean and standard deviation of a mixture of equal parts.

    Its epistemic variance is that between the members' gaps plus the mean of their own, which members have
    with the neighbour correction alone: the law of total variance.
    """
    frames = [pd.read_parquet(task.layout.prediction(name)) for name in task.wanted.predictions]
    records = [read_json(task.layout.prediction_record(name)) for name in task.wanted.predictions]
    found = {}
    for suffix in ("", NEIGHBOURS) if task.is_corrected else ("",):
        members = [frame[frame.method == "lora" + suffix] for frame in frames]
        columns = ("gap_ev", "epistemic_std_ev", "aleatoric_std_ev")
        gap, epistemic, aleatoric = (np.stack([m[c].to_numpy() for m in members]) for c in columns)
        own = np.nan_to_num(epistemic) ** 2
        ms = np.array([record["predict_ms"][f"lora{suffix}@0"] for record in records])
        for k in range(1, len(members) + 1):
            between = gap[:k].var(0, ddof=1) if k > 1 else np.full(gap.shape[1], np.nan)
            std, within = np.sqrt(between + own[:k].mean(0)), np.sqrt((aleatoric[:k] ** 2).mean(0))
            found[ENSEMBLE + suffix, k] = Estimates(gap[:k].mean(0), std, within, float(ms[:k].sum()))
    return found


_METHODS: dict[str, Method] = {
    "balora": _trained(_balora),
    "dropout": _trained(_dropout),
    "full": _trained(_plain),
    "scratch": _trained(_plain),
    "lora": _trained(_plain),
    "laplace": _trained(_laplace),
    ENSEMBLE: _ensemble,
    "mean": lambda task: the_mean(task.dataset, task.rows),
    "composition": lambda task: composition(task.dataset, task.rows, task.wanted.seed),
    "published": lambda task: published(task.config.data, task.dataset, task.rows),
}
