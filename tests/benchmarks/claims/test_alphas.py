"""Alphas fitted after the training."""

from __future__ import annotations

import torch

from benchmarks.claims.alphas import fitted


def test_alpha_of_best_likelihood_grows_where_errors_do() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(800, 3, generator=generator)
    std = torch.where(features[:, 0] > 0, 1.0, 0.1)
    labels = std * torch.randn(800, generator=generator)
    outputs = torch.stack([torch.zeros(800), torch.full((800,), -3.0)], 1)
    alpha = fitted(features, outputs, torch.ones(800, 1), labels).requires_grad_(False)(features)[:, 0]
    assert alpha[features[:, 0] > 0.5].mean() > 3 * alpha[features[:, 0] < -0.5].mean()


def test_alpha_stops_where_other_inputs_gain_nothing_more() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(80, 32, generator=generator), torch.randn(80, generator=generator)
    outputs = torch.stack([torch.zeros(80), torch.full((80,), -2.0)], 1)
    network = fitted(features, outputs, torch.ones(80, 1), labels).requires_grad_(False)
    variance = 0.018 + network(torch.randn(500, 32, generator=generator))[:, 0]
    assert 0.5 * (1 / variance + variance.log()).mean() < 0.7  # 0.5 is the least
