"""Attention of each atom over its row of the neighbour table.

Two implementations of one formula: plain torch, which runs on any device, and compiled loops for the CPU.
Torch operators write the (n_atoms, K, width) intermediates to memory a dozen times; the loops keep them in
registers. In the loops the heads are innermost: channel 0 of every head, then channel 1. So a sum over the
channels of a head adds whole vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from mofgap.compiled import compiled

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

FADING = 1e-6
"""Below this sum of envelopes, an atom receives less, and nothing if it has no neighbours."""
TINY = 1e-30
"""Smallest divisor of the attention weights; it avoids a division by zero."""
MIN_ATOMS = 500
"""Smallest number of atoms of a thread; with fewer, starting it takes longer than it saves."""


def heads_last(x: Tensor, n_heads: int) -> Tensor:
    """(..., width), ordered by head and then channel, to the order by channel and then head."""
    *rows, width = x.shape
    return x.reshape(*rows, n_heads, width // n_heads).transpose(-1, -2).reshape(x.shape)


def heads_first(x: Tensor, n_heads: int) -> Tensor:
    """The inverse of `heads_last`."""
    return heads_last(x, x.shape[-1] // n_heads)


def neighbour_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bond: Tensor,
    gate_bias: Tensor,
    neighbour: Tensor,
    weight: Tensor,
) -> Tensor:
    """Attention over neighbours, weighted by the envelope, with a bias and a gate from the bonds.

    With a = w exp(q·k / sqrt(d) + b), normalised over an atom's neighbours, each head returns
    sum_j a_ij (1 + o + g_ij) ∘ v_j.

    Args:
        query: (n_atoms, width) q.
        key: (n_atoms, width) k.
        value: (n_atoms, width) v.
        bond: (n_atoms, K, n_heads + width): the bias b of the logits and the gate g of the values, the
            latter in the order of `heads_last`.
        gate_bias: (width,) o, added to the gate of every bond, in the same order.
        neighbour: (n_atoms, K) int64 indices.
        weight: (n_atoms, K) float32 envelope w.

    Returns:
        (n_atoms, width).
    """
    if query.device.type == "cpu":
        n_heads = bond.shape[2] - query.shape[1]
        atoms = [heads_last(t.float(), n_heads) for t in (query, key, value)]
        inputs = [t.contiguous() for t in (*atoms, bond.float(), gate_bias.float(), neighbour, weight)]
        result: Tensor = _CompiledAttention.apply(*inputs)  # type: ignore[no-untyped-call]
        return heads_first(result, n_heads)
    return reference_attention(query, key, value, bond, gate_bias, neighbour, weight)


def reference_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bond: Tensor,
    gate_bias: Tensor,
    neighbour: Tensor,
    weight: Tensor,
) -> Tensor:
    """`neighbour_attention` in plain torch operators."""
    n, k, terms = bond.shape
    n_heads = terms - query.shape[1]
    flat = neighbour.reshape(-1)
    heads = (n, k, n_heads, query.shape[1] // n_heads)
    bias, gate = bond[..., :n_heads], heads_first(1 + gate_bias + bond[..., n_heads:], n_heads).view(heads)
    key, value = key.index_select(0, flat).view(heads), value.index_select(0, flat).view(heads)
    logits = (query.view(n, 1, *heads[2:]) * key).sum(-1) / math.sqrt(heads[3]) + bias
    return (_shares(logits, weight)[..., None] * value * gate).sum(1).flatten(1)


def _shares(logits: Tensor, weight: Tensor) -> Tensor:
    """(n_atoms, K, n_heads) attention weights from logits and the envelope (n_atoms, K)."""
    share = torch.exp(logits - logits.amax(1, keepdim=True).detach()) * weight[..., None]
    fading = (weight.sum(1) / FADING).clamp(max=1)[:, None, None]
    return share * (fading / share.sum(1, keepdim=True).clamp_min(TINY))


class _CompiledAttention(torch.autograd.Function):
    """The compiled loops as an operator with a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bond: Tensor,
        gate_bias: Tensor,
        neighbour: Tensor,
        weight: Tensor,
    ) -> Tensor:
        n_heads = bond.shape[2] - query.shape[1]
        loops = _loops(n_heads, query.shape[1])
        logits, out = query.new_empty(*neighbour.shape, n_heads), torch.empty_like(query)
        _over_atoms(loops.logits, [query, bond, neighbour, logits], [key])
        share, gate_start = _shares(logits, weight), 1 + gate_bias
        _over_atoms(loops.weighted_sum, [share, bond, neighbour, out], [value, gate_start])
        ctx.save_for_backward(query, key, value, bond, gate_start, neighbour, share)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bond, gate_start, neighbour, share = ctx.saved_tensors
        n_heads = share.shape[2]
        loops = _loops(n_heads, query.shape[1])
        d_out, d_logits = grads[0].float().contiguous(), torch.empty_like(share)
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        by_atom = [share, bond, neighbour, d_out, d_logits]
        _over_atoms(loops.weighted_sum_backward, by_atom, [value, gate_start], d_value)
        mean = (share * d_logits).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp_min(TINY)
        d_logits.sub_(mean).mul_(share)
        _over_atoms(loops.logits_backward, [query, neighbour, d_logits, d_query], [key], d_key)
        d_bond = d_gate_bias = None
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            d_bond = torch.empty_like(bond)
            d_bond[..., :n_heads] = d_logits
            _over_atoms(loops.gate_backward, [share, neighbour, d_out, d_bond], [value])
            d_gate_bias = d_bond[..., n_heads:].sum((0, 1))
        return d_query, d_key, d_value, d_bond, d_gate_bias, None, None


def _over_atoms(
    loop: Callable[..., None],
    by_atom: Sequence[Tensor],
    whole: Sequence[Tensor],
    added_to: Tensor | None = None,
) -> None:
    """Run a loop over all atoms, on as many threads as torch has.

    Args:
        loop: It takes arrays in the order of the other arguments.
        by_atom: Tensors whose first dimension is divided among the threads.
        whole: Tensors that every thread reads whole.
        added_to: A tensor of zeros to which the loop adds at any row. Each thread adds to a copy; the copies
            are summed.
    """
    n_atoms = len(by_atom[0])
    n_parts = max(1, min(torch.get_num_threads(), n_atoms // MIN_ATOMS))
    ends = [n_atoms * part // n_parts for part in range(n_parts + 1)]
    sums = [] if added_to is None else [added_to, *(torch.zeros_like(added_to) for _ in ends[2:])]
    calls = [
        _arrays(*(t[start:end] for t in by_atom), *whole, *sums[part : part + 1])
        for part, (start, end) in enumerate(pairwise(ends))
    ]
    if n_parts == 1:
        loop(*calls[0])
        return
    with ThreadPoolExecutor(n_parts) as threads:
        for done in [threads.submit(loop, *arrays) for arrays in calls]:
            done.result()
    for own in sums[1:]:
        sums[0] += own


def _arrays(*tensors: Tensor) -> list[Any]:
    return [(t.detach() if t.requires_grad else t).numpy() for t in tensors]


@dataclass(frozen=True)
class _Loops:
    """The compiled loops for one shape of heads."""

    logits: Callable[..., None]
    weighted_sum: Callable[..., None]
    weighted_sum_backward: Callable[..., None]
    logits_backward: Callable[..., None]
    gate_backward: Callable[..., None]


def _inlined(function: Callable[..., None]) -> Callable[..., None]:
    """A function that is inlined into compiled ones, so that its sizes are constants."""
    return cast(Callable[..., None], njit(inline="always")(function))


@lru_cache
def _loops(n_heads: int, width: int) -> _Loops:
    d = width // n_heads
    return _Loops(
        _logits(n_heads, d),
        _weighted_sum(n_heads, d),
        _weighted_sum_backward(n_heads, d),
        _logits_backward(n_heads, d),
        _gate_backward(n_heads, d),
    )


# Sizes are constants for the compiler, and inner loops run over the whole width, all heads included. So the
# vector registers are full.


@_inlined
def _repeat(values: Floats, n_heads: int, d: int, out: Floats) -> None:
    """Copy each head's value to all its channels."""
    for c in range(d):
        for h in range(n_heads):
            out[c * n_heads + h] = values[h]


@_inlined
def _sum_channels(values: Floats, n_heads: int, d: int, parts: int, sums: Floats, out: Floats) -> None:
    """The sum over each head's d channels: first over ``parts`` equal blocks of them, as ``sums``."""
    size = n_heads * d // parts
    for c in range(size):
        total = np.float32(0)
        for part in range(parts):
            total += values[part * size + c]
        sums[c] = total
    for h in range(n_heads):
        total = np.float32(0)
        for c in range(d // parts):
            total += sums[c * n_heads + h]
        out[h] = total


def _logits(n_heads: int, d: int) -> Callable[..., None]:
    scale, width, parts = np.float32(1 / math.sqrt(d)), n_heads * d, math.gcd(d, 4)

    @compiled
    def logits_of(query: Floats, bond: Floats, neighbour: Indices, logits: Floats, key: Floats) -> None:
        """Logits: products of queries and keys, plus the bias of the bonds."""
        n, k, _ = logits.shape
        product, sums = np.empty(width, np.float32), np.empty(width // parts, np.float32)
        for i in range(n):
            own = query[i]
            for s in range(k):
                other, logit = key[neighbour[i, s]], logits[i, s]
                for c in range(width):
                    product[c] = own[c] * other[c]
                _sum_channels(product, n_heads, d, parts, sums, logit)
                for h in range(n_heads):
                    logit[h] = logit[h] * scale + bond[i, s, h]

    return logits_of


def _weighted_sum(n_heads: int, d: int) -> Callable[..., None]:
    width = n_heads * d

    @compiled
    def weighted_sum(
        share: Floats, bond: Floats, neighbour: Indices, out: Floats, value: Floats, gate_start: Floats
    ) -> None:
        """Sum of the neighbours' values times gates, weighted by attention."""
        n, k, _ = share.shape
        part = np.empty(width, np.float32)
        for i in range(n):
            mixed = out[i]
            mixed[:] = 0
            for s in range(k):
                other, gate = value[neighbour[i, s]], bond[i, s, n_heads:]
                _repeat(share[i, s], n_heads, d, part)
                for c in range(width):
                    mixed[c] += part[c] * other[c] * (gate_start[c] + gate[c])

    return weighted_sum


def _weighted_sum_backward(n_heads: int, d: int) -> Callable[..., None]:
    width, parts = n_heads * d, math.gcd(d, 4)

    @compiled
    def weighted_sum_backward(
        share: Floats,
        bond: Floats,
        neighbour: Indices,
        d_out: Floats,
        d_share: Floats,
        value: Floats,
        gate_start: Floats,
        d_value: Floats,
    ) -> None:
        """Gradients of the sum by attention weights and, added to ``d_value``, by values."""
        n, k, _ = share.shape
        part, product = np.empty(width, np.float32), np.empty(width, np.float32)
        sums = np.empty(width // parts, np.float32)
        for i in range(n):
            given = d_out[i]
            for s in range(k):
                other, d_other = value[neighbour[i, s]], d_value[neighbour[i, s]]
                gate = bond[i, s, n_heads:]
                _repeat(share[i, s], n_heads, d, part)
                for c in range(width):
                    passed = given[c] * (gate_start[c] + gate[c])
                    d_other[c] += part[c] * passed
                    product[c] = passed * other[c]
                _sum_channels(product, n_heads, d, parts, sums, d_share[i, s])

    return weighted_sum_backward


def _logits_backward(n_heads: int, d: int) -> Callable[..., None]:
    scale, width = np.float32(1 / math.sqrt(d)), n_heads * d

    @compiled
    def logits_backward(
        query: Floats, neighbour: Indices, d_logits: Floats, d_query: Floats, key: Floats, d_key: Floats
    ) -> None:
        """Gradients of the logits by queries and, added to ``d_key``, by keys."""
        n, k, _ = d_logits.shape
        part, own = np.empty(width, np.float32), np.empty(width, np.float32)
        for i in range(n):
            total = d_query[i]
            for c in range(width):
                own[c] = query[i, c] * scale
                total[c] = 0
            for s in range(k):
                other, d_other = key[neighbour[i, s]], d_key[neighbour[i, s]]
                _repeat(d_logits[i, s], n_heads, d, part)
                for c in range(width):
                    total[c] += part[c] * other[c]
                    d_other[c] += part[c] * own[c]
            for c in range(width):
                total[c] *= scale

    return logits_backward


def _gate_backward(n_heads: int, d: int) -> Callable[..., None]:
    width = n_heads * d

    @compiled
    def gate_backward(
        share: Floats, neighbour: Indices, d_out: Floats, d_bond: Floats, value: Floats
    ) -> None:
        """Gradients of the sum by the gates of the bonds."""
        n, k, _ = share.shape
        part = np.empty(width, np.float32)
        for i in range(n):
            given = d_out[i]
            for s in range(k):
                other, d_gate = value[neighbour[i, s]], d_bond[i, s, n_heads:]
                _repeat(share[i, s], n_heads, d, part)
                for c in range(width):
                    d_gate[c] = part[c] * given[c] * other[c]

    return gate_backward
