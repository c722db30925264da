"""Other alphas for a trained BaLoRA network of gaps: what was tried to make its spread follow the error.

None of them trains the network again, so that they cost one training where an ensemble costs five.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.claims.estimates import CLOSED_FORM, Estimate, Key
from benchmarks.claims.neighbours import Near
from benchmarks.claims.outcomes import OUTCOMES
from benchmarks.claims.task import Split, Task
from mofgap.balora import sensitivity
from mofgap.balora.noise import NoiseNetwork

HELD_OUT = "balora-held-out"
"""Way to predict whose alpha(X) has the best likelihood of validation inputs."""
NEAR = "balora-near"
"""Way to predict whose alpha grows with the distance to the nearest training structure."""
STEPS, RATE, DECAY = 200, 3e-3, 1e-2
"""Of the fit of alpha to validation inputs."""


def other_alphas(model: Any, task: Task, backbone: Any, near: Near, size: int) -> dict[Key, Estimate]:
    """Estimates in closed form with other alphas.

    Args:
        model: A trained `mofgap.balora.BaLoRAModel`.
        task: What it was trained on.
        backbone: Of the model.
        near: Distances of the inputs of each split from the training structures.
        size: Of a batch.
    """
    assert task.val.labels is not None
    outcome, found = OUTCOMES[task.kind], {}
    val = terms(model, task.val, size)
    held_out = fitted(backbone.features(*task.val.inputs), *val, task.val.labels)

    def moments(split: Split, name: str, own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        outputs, per_layer = own
        distance = near[name].relative_distance[:, None].square()
        variance = (model.alpha(backbone.features(*split.inputs)) * distance * per_layer).sum(1)
        return outputs, variance[:, None, None].expand(-1, 2, 2)

    with torch.no_grad():
        factor = outcome.best_factor(moments(task.val, "val", val), task.val.labels.numpy())
        for name, split in {"test": task.test, **task.shifted}.items():
            outputs, per_layer = own = terms(model, split, size)
            variance = (held_out(backbone.features(*split.inputs)) * per_layer).sum(1)
            learnt = outputs, variance[:, None, None].expand(-1, 2, 2)
            found[HELD_OUT, CLOSED_FORM, name] = outcome.of_moments(learnt)
            found[NEAR, CLOSED_FORM, name] = outcome.of_moments(moments(split, name, own), factor)
    return found


def terms(model: Any, split: Split, size: int) -> tuple[Tensor, Tensor]:
    """(n, 2) outputs, and (n, n_layers) variances of the mean for an alpha of one."""
    outputs, per_layer = [], []
    for batch in split.batches(size):
        found = sensitivity(lambda own=batch: model.model(*own.inputs)[:, 0], model.layers, len(batch))
        per_layer.append(found.per_layer)
        with torch.no_grad():
            outputs.append(model(*batch.inputs))
    return torch.cat(outputs), torch.cat(per_layer)


def fitted(features: Tensor, outputs: Tensor, per_layer: Tensor, labels: Tensor) -> nn.Module:
    """A network for alpha(X) under which labels have the best likelihood; the likelihood's std stays.

    Three quarters of the inputs are learnt from, and the last quarter says after which step to stop.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NoiseNetwork(features.shape[1], per_layer.shape[1], hidden=16)
    network.fit_scale(features)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    n = 3 * len(labels) // 4
    mean, log_std = outputs.unbind(1)
    best, kept = float("inf"), network.state_dict()
    for _ in range(STEPS):
        variance = (2 * log_std).exp() + (network(features) * per_layer).sum(1)
        nlls = 0.5 * ((labels - mean).square() / variance + variance.log())
        if (own := float(nlls[n:].mean().detach())) < best:
            best, kept = own, {name: each.clone() for name, each in network.state_dict().items()}
        optimizer.zero_grad()
        nlls[:n].mean().backward()
        optimizer.step()
    network.load_state_dict(kept)
    return network
