from __future__ import annotations

import numpy as np
import torch

from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.study.methods.last_layer import epistemic_std_ev, fit_laplace

ENCODER = {"n_blocks": 1, "width": 16, "n_heads": 2, "n_radial": 8, "edge_width": 8, "ffn_width": 16}


def test_the_spread_is_that_of_bayesian_linear_regression_on_the_last_features() -> None:
    torch.manual_seed(0)
    model = GapModel(GapModelConfig("lora", encoder_settings=ENCODER, head_hidden=6, rank=2)).eval()
    model.gap_std_ev.fill_(1.7)
    pooled = torch.randn(80, 18)
    gap_ev = 2.0 + torch.randn(80)
    fitted = fit_laplace(model, pooled, gap_ev)
    with torch.no_grad():
        features = torch.nn.functional.silu(model.head.hidden(pooled)).double()
    design = torch.cat([features, torch.ones(80, 1)], dim=1)
    sigma, prior = float(fitted.sigma_noise), float(fitted.prior_precision)
    precision = design.mT @ design / sigma**2 + prior * torch.eye(7, dtype=torch.float64)
    expected = 1.7 * (design @ torch.linalg.inv(precision) * design).sum(1).sqrt()
    np.testing.assert_allclose(epistemic_std_ev(model, fitted, pooled).detach(), expected, rtol=2e-3)


def test_prior_and_noise_are_fitted_to_the_data() -> None:
    torch.manual_seed(0)
    model = GapModel(GapModelConfig("lora", encoder_settings=ENCODER, head_hidden=6, rank=2)).eval()
    pooled = torch.randn(400, 18)
    with torch.no_grad():
        mean = model.head.from_pooled(pooled)[0]
    for noise in (0.1, 0.6):
        fitted = fit_laplace(model, pooled, mean + noise * torch.randn(400))
        assert abs(float(fitted.sigma_noise) - noise) < 0.1 * noise
