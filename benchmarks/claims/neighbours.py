"""The neighbour correction of mofgap for every method alike, as `mofgap.gap.posterior` applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.claims.arms import NEIGHBOURS
from benchmarks.claims.estimates import CLOSED_FORM, Estimate, Key, head_inputs
from benchmarks.claims.task import Split, Task
from mofgap.balora import sensitivity
from mofgap.gap.correction import N_SKETCH, Correction, NeighbourCorrection

DISTANCE = "balora-distance"
"""Way to predict whose spread is the distance to the nearest training structure."""


def corrected(
    model: Any, task: Task, backbone: Any, found: Mapping[Key, Estimate], size: int
) -> dict[Key, Estimate]:
    """Estimates with the expected residual, and with the likelihood's std that neighbours give.

    Neighbours are near in the features of the head, which every method has. Epistemic variances stay.

    Args:
        model: Trained.
        task: Whose training structures are the neighbours.
        backbone: Names the layer that gets the head's pooled features.
        found: Estimates of the model.
        size: Of a batch.
    """
    train, outputs = head_inputs(model, backbone.pooled, task.train, size)
    correction = NeighbourCorrection(len(train), train.shape[1])
    correction.fit(train, _residual(task.train, outputs))
    near = {
        name: correction(head_inputs(model, backbone.pooled, split, size)[0])
        for name, split in {"test": task.test, **task.shifted}.items()
    }
    return {
        (way + NEIGHBOURS, n, split): Estimate(moved(each.predicted, near[split]), each.epistemic)
        for (way, n, split), each in found.items()
    }


def by_distance(model: Any, task: Task, backbone: Any, size: int) -> dict[Key, Estimate]:
    """BaLoRA as mofgap ships it: neighbours in the geometry of the posterior, and their distance as spread.

    Args:
        model: A trained `mofgap.balora.BaLoRAModel`.
        task: Whose training structures are the neighbours.
        backbone: Of the model.
        size: Of a batch.
    """
    train, outputs = head_inputs(model, backbone.pooled, task.train, size)
    correction = NeighbourCorrection(len(train), train.shape[1], N_SKETCH)
    correction.fit(train, _residual(task.train, outputs), gradients(model, task.train, backbone, size))
    found = {}
    for name, split in {"test": task.test, **task.shifted}.items():
        pooled, outputs = head_inputs(model, backbone.pooled, split, size)
        near = correction(pooled, gradients(model, split, backbone, size))
        predicted = torch.stack([outputs[:, 0], outputs[:, 1].exp()], 1).double().numpy()
        key = (DISTANCE + NEIGHBOURS, CLOSED_FORM, name)
        found[key] = Estimate(moved(predicted, near), near.std_ev.double().square().numpy())
    return found


def moved(predicted: np.ndarray, near: Correction) -> np.ndarray:
    """(n, 2) corrected means and standard deviations of the likelihood, eV."""
    residual, error, relative = (values.double().numpy() for values in near[:3])
    mean, std = predicted.T
    return np.stack([mean + residual, np.sqrt(std * error * relative)], 1)


def gradients(model: Any, split: Split, backbone: Any, size: int) -> Tensor:
    """(n, n_sketch) places in the geometry of the posterior, eV."""
    return torch.cat([_places(model, batch, backbone) for batch in split.batches(size)]).detach()


def _places(model: Any, batch: Split, backbone: Any) -> Tensor:
    found = sensitivity(
        lambda: model.model(*batch.inputs)[:, 0],
        model.layers,
        len(batch),
        backbone.rows(*batch.inputs),
        n_dims=N_SKETCH,
    )
    with torch.no_grad():
        return found.place(model.alpha(backbone.features(*batch.inputs)))


def _residual(split: Split, outputs: Tensor) -> Tensor:
    assert split.labels is not None
    return split.labels - outputs[:, 0]
