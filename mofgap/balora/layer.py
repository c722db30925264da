"""Base class of all adapted layers; each kind of layer has a separate small file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.balora.rows import InputRows


class Perturbation(Protocol):
    """The random part of A x under the posterior."""

    def __call__(self, x: Tensor, layer: AdaptedLayer) -> Tensor:
        """Perturbation of h = A x.

        Args:
            x: Inputs of the layer, the channels last.
            layer: The layer.

        Returns:
            (..., r), added to h.
        """
        ...


@dataclass(frozen=True)
class Recording:
    """One call of a layer, kept for the closed-form variance.

    Attributes:
        x: The layer's input, detached.
        y: Its output, by which the model's output is differentiated.
        version: Version of ``x`` when the layer was called; torch raises it with every change in place.
    """

    x: Tensor
    y: Tensor
    version: int | None


class AdaptedLayer(nn.Module, ABC):
    """A frozen layer W0 with a low-rank update: y = W0 x + s B h, h = A x (+ noise).

    Without noise this is exactly LoRA. A new layer returns W0 x, since B starts at zero. The noise is on
    whenever `perturbation` or `sampled` is set, in training and in evaluation.

    A and B are matrices for every kind of layer, in at least float32. Under autocast the products with A and
    B run in its lower precision, the noise does not.

    Args:
        base: The layer to adapt; its parameters are frozen in place.
        rank: r, the rank of the update.
        lora_alpha: The update is scaled by s = lora_alpha / rank.
        init_scale: A starts as N(0, init_scale² / d_in).

    Attributes:
        lora_A: (r, d_in) parameter.
        lora_B: (d_out, r) parameter.
        lora_log_std: (r, d_in) logarithm of the posterior's standard deviations after `learn_spread`;
            otherwise ``None``, and they are multiples of A.
        perturbation: Adds the posterior's noise to h: that of the last training forward.
        sampled: The noise of an open `mofgap.balora.sampling.sampling`, in place of ``perturbation``.
        recordings: Collects the layer's calls; set by `mofgap.balora.variance.sensitivity`.
        enabled: When false the layer is W0 alone.
        replaced: The pretrained weight where W0 is another one, which is saved with the adapter; else empty.
        folded: W0 + s B A where `fold` computed it, in the layout of the base's weight, else ``None``.
            Training mode and ``load_state_dict`` drop it.
    """

    folded: Tensor | None
    lora_log_std: nn.Parameter | None
    base: Any
    peft_names: ClassVar[tuple[str, str]] = ("lora_A.weight", "lora_B.weight")
    """Names of A and B in PEFT's files."""

    def __init__(
        self, base: nn.Module, *, rank: int = 8, lora_alpha: float = 16.0, init_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        d_in, d_out = self.widths
        self.scaling = lora_alpha / rank
        weight = self.base.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        A = torch.empty(rank, d_in, dtype=dtype, device=weight.device)
        self.lora_A = nn.Parameter(nn.init.normal_(A, std=init_scale * d_in**-0.5))
        self.lora_B = nn.Parameter(A.new_zeros(d_out, rank))
        self.register_parameter("lora_log_std", None)
        self.perturbation: Perturbation | None = None
        self.sampled: Perturbation | None = None
        self.recordings: list[Recording] | None = None
        self.enabled = True
        self.replaced: tuple[nn.Parameter, ...] = ()  # a tuple, so that it is no parameter of the layer
        self.register_buffer("folded", None, persistent=False)

    def replace_base(self, weight: Tensor) -> None:
        """Take another W0; layers that share it keep it as it was."""
        own = self.base.weight
        self.replaced = self.replaced or (own,)
        self.base.weight, self.folded = nn.Parameter(weight.to(own), own.requires_grad), None

    def restore_base(self) -> None:
        """Take the W0 of the pretrained model again."""
        for weight in self.replaced:
            weight.data = weight.data.to(self.base.weight)
            self.base.weight, self.replaced, self.folded = weight, (), None

    @property
    @abstractmethod
    def widths(self) -> tuple[int, int]:
        """d_in and d_out: widths of the vectors that A multiplies, and that B returns."""

    @abstractmethod
    def project(self, x: Tensor, weight: Tensor) -> Tensor:
        """(..., r) the product of a matrix of A's shape with the layer's input, the channels last."""

    @abstractmethod
    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer's output for its own input and a weight in the base's layout."""

    @abstractmethod
    def vectors(self, x: Tensor) -> Tensor:
        """(n, ..., d_in) the vectors that A multiplies, for the layer's own input."""

    def peft_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of A and B in PEFT's files."""
        return tuple(self.lora_A.shape), tuple(self.lora_B.shape)

    def last(self, x: Tensor) -> Tensor:
        """The layer's input with the channels last, in the precision of A."""
        return x.to(self.lora_A.dtype)

    def output_last(self, y: Tensor) -> Tensor:
        """The layer's output with the channels last."""
        return y

    def lift(self, h: Tensor) -> Tensor:
        """B h in the layout of the layer's output, for h with the channels last."""
        return F.linear(h, self.lora_B)

    def square(self, x: Tensor) -> Tensor:
        """Element-wise square of the layer's input."""
        return x.square()

    def with_signs(self, x: Tensor, signs: Tensor, weight: Tensor) -> Tensor:
        """(..., r) `project` of an input whose channels are multiplied by random signs, (..., n_signs)."""
        return self.project(x * signs, weight)

    def outer(self, x: Tensor, g: Tensor, rows: InputRows) -> Tensor:
        """(n_inputs, r, d_in): sum of g xᵀ over the rows of each input; g is (..., r)."""
        return rows.outer(self.vectors(x).to(g.dtype), g)

    @property
    def n_signs(self) -> int:
        """Number of random signs for one vector of the layer's input."""
        return self.lora_A.shape[1]

    @property
    def rank(self) -> int:
        """r, the rank of the update."""
        return self.lora_A.shape[0]

    @property
    def spread(self) -> Tensor:
        """(r, d_in): its square times alpha is the posterior variance of A."""
        return self.lora_A if self.lora_log_std is None else self.lora_log_std.exp()

    def __getattr__(self, name: str) -> Any:
        """Attributes that a model reads, such as ``weight`` or ``embedding_dim``, are those of the base."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base":  # not there yet, or in a pickle
                raise
            return getattr(self.base, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """As of any module; what the base has is set there.

        Raises:
            AttributeError: If ``name`` is ``weight`` or ``bias``, which are the base's.
        """
        if name in ("weight", "bias"):
            raise AttributeError(f"{name} is that of the layer inside: set base.{name}")
        super().__setattr__(name, value)

    def learn_spread(self, std: float) -> None:
        """Train one standard deviation for each element of A; all start at ``std``."""
        self.lora_log_std = nn.Parameter(torch.full_like(self.lora_A, math.log(std)))

    def train(self, mode: bool = True) -> Self:
        """As of any module; training mode drops the folded weight, which training would change."""
        if mode:
            self.folded = None
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.folded = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        # Noise and recordings belong to one forward pass; torch cannot copy their graphs.
        state = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, "perturbation": None, "sampled": None, "recordings": None}

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer; the output has the precision of the base layer's."""
        if self.enabled and self.recordings is not None:
            return self._recorded(input, self.recordings)
        noise = self.perturbation if self.sampled is None else self.sampled
        if self.enabled and noise is None and self.folded is not None:
            return self.apply_weight(input, self.folded)
        y: Tensor = self.base(input)
        if not self.enabled:
            return y
        x = self.last(input)
        h = self.project(x, self.lora_A)
        if noise is not None:
            with torch.autocast(x.device.type, enabled=False):
                h = (h + noise(x, self)).to(self.lora_B.dtype)
        return self._adapted(y, h)

    def _adapted(self, y: Tensor, h: Tensor) -> Tensor:
        """The base's output and the update of the low-rank features."""
        return torch.add(y, self.lift(h).to(y.dtype), alpha=self.scaling)

    def _recorded(self, x: Tensor, recordings: list[Recording]) -> Tensor:
        """The mean output; its graph starts here if nothing before requires gradients.

        Raises:
            RuntimeError: If gradients are switched off at this layer. Its part of the variance would then be
                lost.
        """
        if not torch.is_grad_enabled():
            raise RuntimeError(
                "an adapted layer runs under no_grad inside the model, so that its part of the variance "
                "cannot be computed (checkpointing with use_reentrant=True does that too)"
            )
        if self.folded is not None or self.weight.dtype == self.lora_A.dtype:
            y = self.apply_weight(x, self._mean_weight() if self.folded is None else self.folded)
        else:  # rounded to half precision, W0 would lose a small update
            y = self._adapted(self.base(x), self.project(self.last(x), self.lora_A))
        if not y.requires_grad:
            y.requires_grad_()
        recordings.append(Recording(x.detach(), y, version_of(x)))
        return y.clone()  # the next module may change it in place

    @torch.no_grad()
    def fold(self) -> None:
        """Store the mean weight, so that the mean costs one product; A, B and W0 must not change."""
        self.folded = self._mean_weight()

    @torch.no_grad()
    def _mean_weight(self) -> Tensor:
        weight: Tensor = self.base.weight
        return (weight.to(self.lora_A.dtype) + self.delta_weight()).to(weight.dtype)

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """The mean update s B A in the layout of the base's weight, in the precision of A and B."""
        return self.scaling * self.lora_B @ self.lora_A

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Add the mean update to W0 and return the base layer; other layers that share W0 do not change."""
        self.base.weight = nn.Parameter(self._mean_weight(), self.base.weight.requires_grad)
        base: nn.Module = self.base
        return base

    def extra_repr(self) -> str:
        """Rank and scale, shown when the model is printed."""
        return f"rank={self.rank}, scaling={self.scaling:g}"


def version_of(x: Tensor) -> int | None:
    """How often a tensor was changed in place; None of one made in inference mode, which has no count."""
    return None if x.is_inference() else x._version


@contextmanager
def perturbed(layers: Mapping[str, AdaptedLayer], noises: Sequence[Perturbation]) -> Iterator[None]:
    """While open, each layer runs with its noise, in the order of the layers."""
    previous = [layer.sampled for layer in layers.values()]
    try:
        for layer, noise in zip(layers.values(), noises, strict=True):
            layer.sampled = noise
        yield
    finally:
        for layer, before in zip(layers.values(), previous, strict=True):
            layer.sampled = before
