"""Other alphas for a trained BaLoRA network of gaps: what was tried to make its spread follow the error.

None of them trains the network again, so that they cost one training where an ensemble costs five.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.claims.estimates import CLOSED_FORM, Estimate, Key, Moments
from benchmarks.claims.neighbours import Near
from benchmarks.claims.outcomes import OUTCOMES
from benchmarks.claims.task import Split, Task, rows_of
from mofgap.balora import sensitivity
from mofgap.balora.noise import NoiseNetwork

HELD_OUT = "balora-held-out"
"""Way to predict whose alpha(X) has the best likelihood of validation inputs."""
NEAR = "balora-near"
"""Way to predict whose alpha grows with the distance to the nearest training structure."""
N_INPUTS = 32
"""Number of features that alpha(X) is fitted on, the first ones."""
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
    outcome, labels = OUTCOMES[task.kind], task.val.labels
    own = {name: terms(model, split, backbone, size) for name, split in task.predicted.items()}
    features = {name: backbone.features(*split.inputs) for name, split in task.predicted.items()}
    with torch.no_grad():
        far = {
            name: model.alpha(features[name]) * near[name].relative_distance[:, None].square() for name in own
        }
    scale = outcome.best_factor(_moments(*own["val"], torch.ones(())), labels.numpy())
    held_out = fitted(features["val"], own["val"][0], scale * own["val"][1], labels)
    factor = outcome.best_factor(_moments(*own["val"], far["val"]), labels.numpy())
    found = {}
    for name in ("test", *task.shifted):
        with torch.no_grad():
            learnt = _moments(*own[name], held_out(features[name][:, :N_INPUTS]))
        found[HELD_OUT, CLOSED_FORM, name] = outcome.of_moments(learnt, scale)
        found[NEAR, CLOSED_FORM, name] = outcome.of_moments(_moments(*own[name], far[name]), factor)
    return found


def _moments(outputs: Tensor, per_layer: Tensor, alpha: Tensor) -> Moments:
    return outputs, (alpha * per_layer).sum(1)[:, None, None].expand(-1, 2, 2)


def terms(model: Any, split: Split, backbone: Any, size: int) -> tuple[Tensor, Tensor]:
    """(n, 2) outputs, and (n, n_layers) variances of the mean for an alpha of one."""
    found = [_terms(model, batch, backbone) for batch in split.batches(size)]
    return torch.cat([outputs for outputs, _ in found]), torch.cat([per_layer for _, per_layer in found])


def _terms(model: Any, batch: Split, backbone: Any) -> tuple[Tensor, Tensor]:
    rows = rows_of(backbone, batch)
    found = sensitivity(lambda: model.model(*batch.inputs)[:, 0], model.layers, len(batch), rows)
    with torch.no_grad():
        return model(*batch.inputs), found.per_layer


def fitted(features: Tensor, outputs: Tensor, per_layer: Tensor, labels: Tensor) -> nn.Module:
    """A network for alpha(X) under which labels have the best likelihood; the likelihood's std stays.

    It reads the first `N_INPUTS` features and starts at an alpha of one. Three quarters of the inputs are
    learnt from, and the last quarter says after which step to stop.
    """
    features = features[:, :N_INPUTS]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NoiseNetwork(features.shape[1], per_layer.shape[1], hidden=16, initial_alpha=1.0)
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
