"""Last-layer Laplace: a Gaussian over the gap head's last weights, put there after training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mofgap.crystals.store import GraphStore
from mofgap.gap.model import GapModel

N_STEPS = 200


def fit_laplace(model: GapModel, pooled: Tensor, gap_ev: Tensor) -> Any:
    """laplace-torch's posterior over the last layer of the head, fitted to the training structures.

    Daxberger et al., Laplace Redux, arXiv 2106.14806. Prior precision and noise maximise the marginal
    likelihood.

    Args:
        model: Trained; its last layer's first row gives the normalised gap.
        pooled: (n, n_features) pooled activations of the training structures.
        gap_ev: (n,) their labels, eV.

    Returns:
        Posterior of the package, over normalised gaps.
    """
    from laplace import Laplace

    last = nn.Linear(model.head.out.in_features, 1, device=pooled.device)
    with torch.no_grad():
        last.weight.copy_(model.head.out.weight[:1])
        last.bias.copy_(model.head.out.bias[:1])
    network = nn.Sequential(model.head.hidden, nn.SiLU(), last)
    target = ((gap_ev - model.gap_mean_ev) / model.gap_std_ev)[:, None]
    posterior = Laplace(network, "regression", subset_of_weights="last_layer", hessian_structure="full")
    posterior.fit(DataLoader(TensorDataset(pooled, target), batch_size=1024))
    _maximise_evidence(posterior)
    return posterior


def epistemic_std_ev(model: GapModel, posterior: Any, pooled: Tensor) -> Tensor:
    """(n, n_features) pooled activations of the head to the posterior's spread of the gap, eV, (n,)."""
    _, variance = posterior(pooled)
    std: Tensor = variance.flatten().clamp_min(0).sqrt()
    return model.gap_std_ev * std


def _maximise_evidence(posterior: Any) -> None:
    log_prior = torch.zeros(1, requires_grad=True)
    log_sigma = torch.full((1,), math.log(0.3), requires_grad=True)
    optimizer = torch.optim.Adam([log_prior, log_sigma], lr=0.1)
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        loss = -posterior.log_marginal_likelihood(log_prior.exp(), log_sigma.exp())
        loss.backward()
        optimizer.step()
    posterior.prior_precision = log_prior.detach().exp()
    posterior.sigma_noise = log_sigma.detach().exp()


@torch.no_grad()
def pooled_of(model: GapModel, store: GraphStore, rows: Sequence[int], batch_atoms: int) -> Tensor:
    """(n, n_features) pooled activations of the head for some structures."""
    batches = store.batches(rows, batch_atoms, model.device)
    return torch.cat([model.pooled(batch) for batch in batches])
