"""The noise network alpha(X): the posterior variance factor of each adapted layer, for each input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

N_FIXED = 2**40
"""Number of inputs that a standardisation counts for which was set or loaded: more do not change it."""


class NoiseNetwork(nn.Module):
    """alpha(X): standardise, then linear, LayerNorm, SiLU, linear, softplus.

    Pooled features share a large constant part, which hides the differences between inputs. `fit_scale`
    removes it; call it once, on the training inputs. The LayerNorm comes after the first linear layer: it
    bounds an outlier, and keeps the information of few or correlated features.

    At the start alpha is about ``initial_alpha``, and log(alpha) has a standard deviation over the inputs of
    about ``initial_spread``. So the gradient of the last layer depends on the input from the first step on.

    Args:
        n_features: Width of the pooled features of the frozen model.
        n_layers: Number of adapted layers.
        hidden: Width of the hidden layer.
        initial_alpha: alpha at the start. The KL divergence pulls it to the prior's c.
        initial_spread: Standard deviation of log(alpha) over the inputs at the start.
    """

    feature_mean: Tensor
    feature_std: Tensor
    is_fixed = False
    """Whether the standardisation was set, so that batches no longer change it."""

    def __init__(
        self,
        n_features: int,
        n_layers: int,
        *,
        hidden: int = 64,
        initial_alpha: float = 1 / 9,
        initial_spread: float = 0.1,
    ) -> None:
        super().__init__()
        self.register_buffer("feature_mean", torch.zeros(n_features))
        self.register_buffer("feature_std", torch.ones(n_features))
        last = nn.Linear(hidden, n_layers)
        bias = initial_alpha + math.log(-math.expm1(-initial_alpha))  # the inverse of softplus
        # softplus turns a change dz into dlog(alpha) = slope * dz at the start; SiLU of a LayerNorm has a
        # mean square of about 0.36.
        slope = -math.expm1(-initial_alpha) / initial_alpha
        nn.init.normal_(last.weight, std=initial_spread / (slope * math.sqrt(0.36 * hidden)))
        nn.init.constant_(last.bias, bias)
        self.network = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.LayerNorm(hidden),
            nn.SiLU(),
            last,
            nn.Softplus(),
        )

    @torch.no_grad()
    def fit_scale(self, features: Tensor) -> None:
        """Set the standardisation from training features, (n_inputs, n_features) with n_inputs >= 2."""
        std, mean = torch.std_mean(features.float(), dim=0)
        self.feature_mean.copy_(mean)
        self.feature_std.copy_(torch.where(std > 1e-6, std, torch.zeros_like(std)))
        self.is_fixed = True

    @torch.no_grad()
    def update_scale(self, features: Tensor, n_before: Tensor) -> Tensor:
        """Update the standardisation, which ``n_before`` inputs fitted, with a batch, unless it `is_fixed`.

        Chan, Golub and LeVeque, Am. Stat. 37, 242 (1983). Inputs with a feature that is not finite, as after
        an overflow, are left out.

        Args:
            features: (n_inputs, n_features).
            n_before: () number of inputs of all earlier batches.

        Returns:
            () number of inputs that were counted; `N_FIXED` where it is fixed, which a checkpoint keeps.
        """
        if self.is_fixed:
            return torch.full_like(n_before, N_FIXED)
        features = features.to(self.feature_mean)
        finite = features.isfinite().all(1, keepdim=True)
        n = finite.sum()
        share = (n / (n_before + n).clamp_min(1)).to(features)
        mean = torch.where(finite, features, 0.0).sum(0) / n.clamp_min(1)
        own = torch.where(finite, features - mean, 0.0).square().sum(0) / n.clamp_min(1)
        shift = torch.where(n_before < 1, torch.zeros_like(mean), mean - self.feature_mean)
        variance = self.feature_std.square().lerp(own, share) + share * (1 - share) * shift.square()
        self.feature_mean.copy_(mean - (1 - share) * shift)
        std = torch.where(variance > 1e-12, variance.sqrt(), torch.zeros_like(variance))
        # One that is infinite makes a feature ignored.
        self.feature_std.copy_(torch.where(self.feature_std.isinf(), self.feature_std, std))
        return n

    @torch.no_grad()
    def ignore_features(self) -> None:
        """Make alpha one number per layer for all inputs; call it instead of, or after, `fit_scale`."""
        self.feature_std.fill_(math.inf)
        self.is_fixed = True

    def forward(self, features: Tensor) -> Tensor:
        """Posterior variance factors.

        Args:
            features: (n_inputs, n_features) pooled features of the frozen model.

        Returns:
            (n_inputs, n_layers) alpha > 0, in float32 also under autocast.
        """
        with torch.autocast(features.device.type, enabled=False):
            std = torch.where(self.feature_std > 0, self.feature_std, math.inf)  # a constant says nothing
            scaled = (features.to(self.feature_mean.dtype) - self.feature_mean) / std
            alpha: Tensor = self.network(scaled)
        return alpha
