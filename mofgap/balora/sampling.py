"""Drawing from the posterior: noise that the adapted layers add while a context is open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from mofgap.balora.layer import AdaptedLinear, Perturbation, perturbed
from mofgap.balora.rows import InputRows

Kind = Literal["weights", "rows"]


@dataclass(frozen=True)
class WeightNoise:
    """One draw of A per input, shared by all its rows and decorrelated by flipout signs.

    Flipout: Wen et al., arXiv 1803.04386.

    Attributes:
        alpha: (n_inputs, 1) posterior variance factor.
        rows: Which row belongs to which input.
        eps: (r, d_in) standard normal, shared by the batch.
        signs_out: (n_inputs, r) random signs u.
        signs_in: (n_inputs, d_in) random signs v.
    """

    alpha: Tensor
    rows: InputRows
    eps: Tensor
    signs_out: Tensor
    signs_in: Tensor

    def __call__(self, x: Tensor, A: Tensor) -> Tensor:
        """(..., r): sqrt(alpha) u ∘ ((A∘eps)(v∘x))."""
        h = F.linear(x * self.rows.expand(self.signs_in, x), A * self.eps)
        return self.rows.expand(_sqrt(self.alpha) * self.signs_out, x) * h


@dataclass(frozen=True)
class RowNoise:
    """Fresh noise for every row, with the variance that A's posterior gives that row.

    Attributes:
        alpha: (n_inputs, 1) posterior variance factor.
        rows: Which row belongs to which input.
        generators: None for torch's own, one for the batch, or one per input.
    """

    alpha: Tensor
    rows: InputRows
    generators: torch.Generator | Sequence[torch.Generator] | None

    def __call__(self, x: Tensor, A: Tensor) -> Tensor:
        """(..., r): sqrt(alpha (A∘A)(x∘x)) ∘ eps."""
        std = _sqrt(self.rows.expand(self.alpha, x) * F.linear(x.square(), A.square()))
        if self.generators is None or isinstance(self.generators, torch.Generator):
            return std * _normal(std.shape, std, self.generators)
        return std * self.rows.draw(torch.randn, std, self.generators)


@contextmanager
def sampling(
    layers: Mapping[str, AdaptedLinear],
    alpha: Tensor,
    row_to_input: Tensor | None = None,
    *,
    kind: Kind = "weights",
    generator: torch.Generator | None = None,
    input_seeds: Sequence[int] | None = None,
) -> Iterator[None]:
    """While open, the layers run with noise from the posterior N(A, alpha A∘A).

    With ``weights`` one context is one sample: the weights are drawn as it opens, so every call inside sees
    the same ones. With ``rows`` every call draws afresh. Go backward inside the context where activations are
    recomputed (gradient checkpointing): recomputed outside, they would lack the noise.

    Every draw comes from ``generator``. So that an input's sample does not depend on what else is in the
    batch, give ``input_seeds`` too: then ``weights`` takes from the generator only what the whole batch
    shares, and each input's signs (or, with ``rows``, all its noise) come from its own seed. Seed the
    generator by the number of the sample, and the inputs by the sample and something that names the input.

    Args:
        layers: The adapted layers, in the order of alpha's columns.
        alpha: (n_inputs, n_layers) posterior variance factors, >= 0. Gradients flow to it.
        row_to_input: (n_rows,) int64 and sorted, the input each row belongs to; ``None`` where the leading
            dimension of every layer's input is the batch.
        kind: ``weights``, one draw of A per input, or ``rows``, independent noise per row.
        generator: Source of the draws; torch's global one when ``None``. It may live on the CPU whatever
            the device of the model, and then gives the same numbers on every device.
        input_seeds: One integer per input. Torch's CPU generator uses the low 32 bits.

    Raises:
        ValueError: The ``kind`` is unknown, ``alpha`` or ``input_seeds`` has the wrong shape, or
            ``row_to_input`` is not sorted. The ``kind`` is ``weights``, with ``input_seeds`` but without a
            ``generator``.
    """
    _check(layers, alpha, kind, generator, input_seeds)
    rows = InputRows(alpha.shape[0], row_to_input)
    alphas = alpha.unbind(1)
    if kind == "weights":
        noises: list[Perturbation] = _weight_noises(layers, alphas, rows, generator, input_seeds)
    else:
        own = None if input_seeds is None else seeded(input_seeds)
        noises = [RowNoise(a[:, None], rows, generator if own is None else own) for a in alphas]
    with perturbed(layers, noises):
        yield


@contextmanager
def without_adapters(layers: Mapping[str, AdaptedLinear]) -> Iterator[None]:
    """While open, the layers are their frozen base alone: the pretrained model's own features."""
    previous = [layer.enabled for layer in layers.values()]
    try:
        for layer in layers.values():
            layer.enabled = False
        yield
    finally:
        for layer, before in zip(layers.values(), previous, strict=True):
            layer.enabled = before


def _check(
    layers: Mapping[str, AdaptedLinear],
    alpha: Tensor,
    kind: str,
    generator: torch.Generator | None,
    input_seeds: Sequence[int] | None,
) -> None:
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if alpha.ndim != 2 or alpha.shape[1] != len(layers):
        raise ValueError(f"alpha must be (n_inputs, {len(layers)}), got {tuple(alpha.shape)}")
    if input_seeds is None:
        return
    if len(input_seeds) != alpha.shape[0]:
        raise ValueError(f"{len(input_seeds)} input_seeds for {alpha.shape[0]} inputs")
    if kind == "weights" and generator is None:
        raise ValueError("input_seeds need a generator too: it draws what the batch shares")


def _weight_noises(
    layers: Mapping[str, AdaptedLinear],
    alphas: Sequence[Tensor],
    rows: InputRows,
    generator: torch.Generator | None,
    input_seeds: Sequence[int] | None,
) -> list[Perturbation]:
    """Draw eps for each layer, then the signs of all layers at once."""
    weights = [layer.lora_A for layer in layers.values()]
    eps = [_normal(A.shape, A, generator) for A in weights]
    widths = [width for A in weights for width in A.shape]
    if input_seeds is None:
        signs = _signs((rows.n_inputs, sum(widths)), weights[0], generator)
    else:
        signs = torch.stack([_signs((sum(widths),), weights[0], own) for own in seeded(input_seeds)])
    parts = torch.split(signs, widths, dim=1)
    return [
        WeightNoise(a[:, None], rows, e, u, v)
        for a, e, u, v in zip(alphas, eps, parts[::2], parts[1::2], strict=True)
    ]


def _sqrt(variance: Tensor) -> Tensor:
    """Square root whose gradient stays finite at zero."""
    return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator on the CPU for each seed, of which torch uses the low 32 bits."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _normal(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, device=device, dtype=like.dtype).to(like.device)


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    bits = torch.randint(0, 2, shape, generator=generator, device=device)
    return (2 * bits - 1).to(device=like.device, dtype=like.dtype)
