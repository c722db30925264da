"""The neighbour correction of mofgap for every method alike, as `mofgap.gap.posterior` applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.claims.arms import NEIGHBOURS
from benchmarks.claims.estimates import CLOSED_FORM, Estimate, Key, head_inputs
from benchmarks.claims.task import Split, Task, rows_of
from mofgap.balora import sensitivity
from mofgap.gap.correction import N_SKETCH, Correction, NeighbourCorrection

DISTANCE = "balora-distance"
"""Way to predict whose spread is the distance to the nearest training structure."""
LORA_DISTANCE = "lora-distance"
"""The same of LoRA, which has no posterior: the distance is that of the head's features."""

Near = Mapping[str, Correction]
"""What the nearest training structures say of the inputs of each split."""


def near(model: Any, task: Task, backbone: Any, size: int) -> Near:
    """Neighbours in the features of the head, which every method has.

    Args:
        model: Trained.
        task: Whose training structures are the neighbours.
        backbone: Names the head.
        size: Of a batch.
    """
    return _near(model, task, backbone, size, geometry=False)


def corrected(found: Mapping[Key, Estimate], near: Near) -> dict[Key, Estimate]:
    """Estimates with the expected residual, and with the likelihood's std that neighbours give.

    Epistemic variances stay.
    """
    return {
        (way + NEIGHBOURS, n, split): Estimate(moved(each.predicted, near[split]), each.epistemic)
        for (way, n, split), each in found.items()
    }


def by_distance(model: Any, task: Task, backbone: Any, size: int) -> dict[Key, Estimate]:
    """BaLoRA as mofgap ships it: neighbours in the geometry of the posterior, and their distance as spread.

    Both with the correction, and with the distance alone. The arguments are those of `near`, for a trained
    `mofgap.balora.BaLoRAModel`.
    """
    found = {}
    for name, near in _near(model, task, backbone, size, geometry=True).items():
        if name != "val":
            plain = _predicted(head_inputs(model, backbone.head, task.predicted[name], size)[1])
            spread = near.std_ev.double().square().numpy()
            found[DISTANCE, CLOSED_FORM, name] = Estimate(plain, spread)
            found[DISTANCE + NEIGHBOURS, CLOSED_FORM, name] = Estimate(moved(plain, near), spread)
    return found


def lora_by_distance(found: Mapping[Key, Estimate], near: Near) -> dict[Key, Estimate]:
    """LoRA with the distance of the nearest training structure as its spread."""
    return {
        (LORA_DISTANCE, CLOSED_FORM, split): Estimate(
            each.predicted, near[split].std_ev.double().square().numpy()
        )
        for (way, _, split), each in found.items()
        if way == "lora"
    }


def moved(predicted: np.ndarray, near: Correction) -> np.ndarray:
    """(n, 2) corrected means and standard deviations of the likelihood, eV."""
    residual, error, relative = (values.double().numpy() for values in near[:3])
    mean, std = predicted.T
    return np.stack([mean + residual, np.sqrt(std * error * relative)], 1)


def _near(model: Any, task: Task, backbone: Any, size: int, *, geometry: bool) -> Near:
    """Neighbours in the features of the head; with the posterior's geometry before them, if it is wanted."""
    train, outputs = head_inputs(model, backbone.head, task.train, size)
    correction = NeighbourCorrection(len(train), train.shape[1], N_SKETCH if geometry else 0)

    def places(split: Split) -> Tensor | None:
        return gradients(model, split, backbone, size) if geometry else None

    assert task.train.labels is not None
    correction.fit(train, task.train.labels - outputs[:, 0], places(task.train))
    return {
        name: correction(head_inputs(model, backbone.head, split, size)[0], places(split))
        for name, split in task.predicted.items()
    }


def gradients(model: Any, split: Split, backbone: Any, size: int) -> Tensor:
    """(n, n_sketch) places in the geometry of the posterior, eV."""
    return torch.cat([_places(model, batch, backbone) for batch in split.batches(size)]).detach()


def _places(model: Any, batch: Split, backbone: Any) -> Tensor:
    found = sensitivity(
        lambda: model.model(*batch.inputs)[:, 0],
        model.layers,
        len(batch),
        rows_of(backbone, batch),
        n_dims=N_SKETCH,
    )
    with torch.no_grad():
        return found.gradient_features(model.alpha(backbone.features(*batch.inputs)))


def _predicted(outputs: Tensor) -> np.ndarray:
    return torch.stack([outputs[:, 0], outputs[:, 1].exp()], 1).double().numpy()
