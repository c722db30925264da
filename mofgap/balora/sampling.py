"""Sampling from the posterior: noise that the adapted layers add while a context is open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from mofgap.balora.layer import AdaptedLayer, Perturbation, perturbed
from mofgap.balora.rows import InputRows
from mofgap.balora.saved import TrainedModule
from mofgap.choices import Noise


@dataclass(frozen=True)
class WeightNoise:
    """One draw of A per input, the same for all its rows.

    Random signs make the draws of inputs different (flipout: Wen et al., arXiv 1803.04386). Without signs all
    inputs of the batch share one draw.

    Attributes:
        alpha: (n_inputs, 1) posterior variance factor.
        rows: The input that each row belongs to.
        eps: (r, d_in) standard normal, shared by the batch.
        signs: Random signs u (n_inputs, r) and v (n_inputs, n_signs of the layer), or ``None``.
    """

    alpha: Tensor
    rows: InputRows
    eps: Tensor
    signs: tuple[Tensor, Tensor] | None

    def __call__(self, x: Tensor, layer: AdaptedLayer) -> Tensor:
        """(..., r): sqrt(alpha) u ∘ ((A∘eps)(v∘x))."""
        weight = layer.spread * self.eps
        if self.signs is None:
            return self.rows.expand(_sqrt(self.alpha), x) * layer.project(x, weight)
        u, v = self.signs
        h = layer.with_signs(x, self.rows.expand(v, x), weight)
        return self.rows.expand(_sqrt(self.alpha) * u, x) * h


@dataclass(frozen=True)
class RowNoise:
    """Fresh noise for every row, with the variance that A's posterior gives that row.

    Attributes:
        alpha: (n_inputs, 1) posterior variance factor.
        rows: The input that each row belongs to.
        generators: None for torch's global generator, one for the batch, or one per input.
    """

    alpha: Tensor
    rows: InputRows
    generators: torch.Generator | Sequence[torch.Generator] | None

    def __call__(self, x: Tensor, layer: AdaptedLayer) -> Tensor:
        """(..., r): sqrt(alpha (A∘A)(x∘x)) ∘ eps."""
        std = _sqrt(self.rows.expand(self.alpha, x) * layer.project(layer.square(x), layer.spread.square()))
        if self.generators is None or isinstance(self.generators, torch.Generator):
            return std * _normal(std.shape, std, self.generators)
        return std * self.rows.draw(torch.randn, std, self.generators)


@contextmanager
def sampling(
    layers: Mapping[str, AdaptedLayer],
    alpha: Tensor,
    row_to_input: Tensor | None = None,
    *,
    kind: Noise = "weights",
    generator: torch.Generator | None = None,
    input_seeds: Sequence[int] | None = None,
    flipout: bool = True,
) -> Iterator[None]:
    """While open, the layers run with noise from the posterior N(A, alpha A∘A).

    With ``weights`` one context is one sample: A is drawn when it opens, and every call inside uses the same
    draw. With ``rows`` every call draws again. With gradient checkpointing, run the backward pass inside the
    context: activations that are recomputed outside lack the noise.

    Every draw comes from ``generator``. Give ``input_seeds`` too if an input's sample must not depend on the
    other inputs of the batch. Then the generator draws only what the batch shares, and each input's signs
    (or, with ``rows``, all its noise, which then depends on padding) come from its seed. Seed the generator
    by the number of the sample, and an input by the number of the sample and the name of the input.

    Args:
        layers: The adapted layers, in the order of alpha's columns.
        alpha: (n_inputs, n_layers) posterior variance factors, >= 0. Gradients flow to it.
        row_to_input: (n_rows,) int64 and sorted, the input each row belongs to; ``None`` if the leading
            dimension of every layer's input is the batch.
        kind: ``weights``, one draw of A per input, or ``rows``, independent noise per row.
        generator: Source of the draws; torch's global one when ``None``. A generator on the CPU works for a
            model on any device, and gives the same numbers on all of them.
        input_seeds: One integer per input. Torch's CPU generator uses the low 32 bits.
        flipout: Whether the inputs of a batch get different ``weights``; without it they share one draw.

    Raises:
        ValueError: If ``kind`` is unknown, ``alpha`` or ``input_seeds`` has the wrong shape, or
            ``row_to_input`` is not sorted.
        ValueError: If ``kind`` is ``weights`` and ``input_seeds`` are given without a ``generator``.
    """
    _check(layers, alpha, kind, generator, input_seeds)
    rows = InputRows(alpha.shape[0], row_to_input)
    with perturbed(layers, noises(layers, alpha, rows, kind, generator, input_seeds, flipout)):
        yield


def noises(
    layers: Mapping[str, AdaptedLayer],
    alpha: Tensor,
    rows: InputRows,
    kind: Noise,
    generator: torch.Generator | None = None,
    input_seeds: Sequence[int] | None = None,
    flipout: bool = True,
) -> list[Perturbation]:
    """The noise of each layer for one sample; the arguments are those of `sampling`."""
    alphas = alpha.unbind(1)
    if kind == "weights":
        return _weight_noises(layers, alphas, rows, generator, input_seeds, flipout)
    own = None if input_seeds is None else seeded(input_seeds)
    return [RowNoise(a[:, None], rows, generator if own is None else own) for a in alphas]


@contextmanager
def without_adapters(layers: Mapping[str, AdaptedLayer | TrainedModule]) -> Iterator[None]:
    """While open, the layers are what was pretrained, without adapters or training."""
    previous = [layer.enabled for layer in layers.values()]
    try:
        for layer in layers.values():
            layer.enabled = False
        yield
    finally:
        for layer, before in zip(layers.values(), previous, strict=True):
            layer.enabled = before


def _check(
    layers: Mapping[str, AdaptedLayer],
    alpha: Tensor,
    kind: str,
    generator: torch.Generator | None,
    input_seeds: Sequence[int] | None,
) -> None:
    if kind not in get_args(Noise):
        raise ValueError(f"kind must be one of {', '.join(get_args(Noise))}, got {kind!r}")
    if alpha.ndim != 2 or alpha.shape[1] != len(layers):
        raise ValueError(f"alpha must be (n_inputs, {len(layers)}), got {tuple(alpha.shape)}")
    if input_seeds is None:
        return
    if len(input_seeds) != alpha.shape[0]:
        raise ValueError(f"{len(input_seeds)} input_seeds for {alpha.shape[0]} inputs")
    if kind == "weights" and generator is None:
        raise ValueError("input_seeds need a generator too, for the noise that the batch shares")


def _weight_noises(
    layers: Mapping[str, AdaptedLayer],
    alphas: Sequence[Tensor],
    rows: InputRows,
    generator: torch.Generator | None,
    input_seeds: Sequence[int] | None,
    flipout: bool,
) -> list[Perturbation]:
    """Draw eps for each layer, then the signs of all layers at once."""
    weights = [layer.lora_A for layer in layers.values()]
    eps = [_normal(A.shape, A, generator) for A in weights]
    if not flipout:
        return [WeightNoise(a[:, None], rows, e, None) for a, e in zip(alphas, eps, strict=True)]
    widths = [width for layer in layers.values() for width in (layer.rank, layer.n_signs)]
    if input_seeds is None:
        signs = _signs((rows.n_inputs, sum(widths)), weights[0], generator)
    else:
        signs = torch.stack([_signs((sum(widths),), weights[0], own) for own in seeded(input_seeds)])
    parts = torch.split(signs, widths, dim=1)
    return [
        WeightNoise(a[:, None], rows, e, (u, v))
        for a, e, u, v in zip(alphas, eps, parts[::2], parts[1::2], strict=True)
    ]


def _sqrt(variance: Tensor) -> Tensor:
    """Square root whose gradient stays finite at zero."""
    return variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A generator on the CPU for each seed, of which torch uses the low 32 bits."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _normal(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(tuple(shape), dtype=like.dtype, **source_of(generator, like)).to(like.device)


def _signs(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    bits = torch.randint(0, 2, shape, **source_of(generator, like))
    return (2 * bits - 1).to(device=like.device, dtype=like.dtype)


def source_of(generator: torch.Generator | None, like: Tensor) -> dict[str, Any]:
    """Arguments of torch that say where it draws; None is its global generator on the device of a tensor."""
    # Compiled for any size of the batch, torch takes no ``generator=None``.
    if generator is None:
        return {"device": like.device}
    return {"generator": generator, "device": generator.device}
