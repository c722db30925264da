"""The adapted linear layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Perturbation(Protocol):
    """The random part of A x under the posterior."""

    def __call__(self, x: Tensor, A: Tensor) -> Tensor:
        """Perturbation of h = A x.

        Args:
            x: (..., d_in) inputs of the layer.
            A: (r, d_in) posterior mean.

        Returns:
            (..., r) what to add to h.
        """
        ...


@dataclass(frozen=True)
class Recording:
    """One call of a layer, kept for the closed-form variance.

    Attributes:
        x: (..., d_in) the layer's input, detached.
        y: (..., d_out) its output, through which the model output's gradient is taken.
        version: Of ``x`` when the layer was called: torch counts what is done to it in place.
    """

    x: Tensor
    y: Tensor
    version: int


class AdaptedLinear(nn.Module):
    """A frozen linear layer W0 with a low-rank update: y = W0 x + s B h, h = A x (+ noise).

    Without noise this is exactly LoRA, and it is the identity on W0 when new, since B starts at zero. The
    noise is on whenever `perturbation` is set, in training and in evaluation alike.

    A and B are kept in at least float32. Under autocast the two thin products run in its lower precision,
    the noise does not.

    Args:
        base: The layer to adapt; its parameters are frozen in place.
        rank: r, the rank of the update.
        lora_alpha: The update is scaled by s = lora_alpha / rank.
        init_scale: A starts as N(0, init_scale² / d_in).

    Attributes:
        lora_A: (r, d_in) parameter.
        lora_B: (d_out, r) parameter.
        perturbation: Adds the posterior's noise to h; set by `mofgap.balora.sampling.sampling`.
        recordings: Collects the layer's calls; set by `mofgap.balora.variance.sensitivity`.
        enabled: When false the layer is W0 alone.
        folded: (d_out, d_in) W0 + s B A where `fold` computed it, else None. Training mode and
            ``load_state_dict`` drop it.
    """

    folded: Tensor | None

    def __init__(
        self, base: nn.Linear, *, rank: int = 8, lora_alpha: float = 16.0, init_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scaling = lora_alpha / rank
        dtype = torch.promote_types(base.weight.dtype, torch.float32)
        A = torch.empty(rank, base.in_features, dtype=dtype, device=base.weight.device)
        self.lora_A = nn.Parameter(nn.init.normal_(A, std=init_scale * base.in_features**-0.5))
        self.lora_B = nn.Parameter(A.new_zeros(base.out_features, rank))
        self.perturbation: Perturbation | None = None
        self.recordings: list[Recording] | None = None
        self.enabled = True
        self.register_buffer("folded", None, persistent=False)

    @property
    def rank(self) -> int:
        """r, the rank of the update."""
        return self.lora_A.shape[0]

    @property
    def in_features(self) -> int:
        """d_in, as on ``nn.Linear``."""
        return self.base.in_features

    @property
    def out_features(self) -> int:
        """d_out, as on ``nn.Linear``."""
        return self.base.out_features

    @property
    def weight(self) -> Tensor:
        """(d_out, d_in) W0, for models that look at a layer's precision or device."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        """(d_out,) of W0, as on ``nn.Linear``."""
        return self.base.bias

    def train(self, mode: bool = True) -> Self:
        """As on any module; what training will change is not kept folded."""
        if mode:
            self.folded = None
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.folded = None
        super()._load_from_state_dict(*args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: (..., d_in).

        Returns:
            (..., d_out) in the precision of the base layer's output.
        """
        if self.enabled and self.recordings is not None:
            return self._recorded(x, self.recordings)
        if self.enabled and self.perturbation is None and self.folded is not None:
            return F.linear(x, self.folded, self.base.bias)
        y: Tensor = self.base(x)
        if not self.enabled:
            return y
        x = x.to(self.lora_A.dtype)
        h = F.linear(x, self.lora_A)
        if self.perturbation is not None:
            with torch.autocast(x.device.type, enabled=False):
                h = h + self.perturbation(x, self.lora_A)
        return y + self.scaling * F.linear(h, self.lora_B).to(y.dtype)

    def _recorded(self, x: Tensor, recordings: list[Recording]) -> Tensor:
        """The mean output, its graph starting here where nothing before asks for gradients.

        Raises:
            RuntimeError: Gradients are switched off at this layer, so that its part of the variance would be
                lost.
        """
        if not torch.is_grad_enabled():
            raise RuntimeError(
                "an adapted layer runs under no_grad inside the model, so that its part of the variance "
                "cannot be known (checkpointing with use_reentrant=True does that too)"
            )
        weight = self._mean_weight() if self.folded is None else self.folded
        bias = None if self.base.bias is None else self.base.bias.detach()
        y = F.linear(x, weight, bias)
        if not y.requires_grad:
            y.requires_grad_()
        recordings.append(Recording(x.detach(), y, x._version))
        return y.clone()  # what follows may work in place

    @torch.no_grad()
    def fold(self) -> None:
        """Keep the mean weight ready, so that the mean costs one product; A, B and W0 must not change."""
        self.folded = self._mean_weight()

    @torch.no_grad()
    def _mean_weight(self) -> Tensor:
        weight = self.base.weight
        return (weight.to(self.lora_A.dtype) + self.delta_weight()).to(weight.dtype)

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """(d_out, d_in) the mean update s B A, in the precision of A and B."""
        return self.scaling * self.lora_B @ self.lora_A

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """Fold the mean update into W0 and return the base layer; layers that share W0 keep it as it was."""
        self.base.weight = nn.Parameter(self._mean_weight(), self.base.weight.requires_grad)
        return self.base

    def extra_repr(self) -> str:
        """Rank and scale, shown when the model is printed."""
        return f"rank={self.rank}, scaling={self.scaling:g}"


@contextmanager
def perturbed(layers: Mapping[str, AdaptedLinear], noises: Sequence[Perturbation]) -> Iterator[None]:
    """While open, each layer runs with its noise, in the order of the layers."""
    previous = [layer.perturbation for layer in layers.values()]
    try:
        for layer, noise in zip(layers.values(), noises, strict=True):
            layer.perturbation = noise
        yield
    finally:
        for layer, before in zip(layers.values(), previous, strict=True):
            layer.perturbation = before
