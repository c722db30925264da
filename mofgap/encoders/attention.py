"""Attention of each atom over its row of the neighbour table.

Two implementations of one formula: plain torch, which runs anywhere, and compiled loops for the CPU. Written
with torch operators, the (n_atoms, K, width) intermediates travel through memory a dozen times; the loops
keep them in registers. They want the heads innermost: channel 0 of every head, then channel 1. Then a sum
over the channels of a head adds whole vectors.
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

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

FADING = 1e-6
"""Sum of envelopes below which an atom receives less: nothing where it has no neighbours."""
TINY = 1e-30
"""Smallest sum of exponentials that is divided by; far below what a logit off the top leaves."""
MIN_ATOMS = 500
"""A thread gets at least so many atoms, or starting it does not pay."""


def heads_last(x: Tensor, n_heads: int) -> Tensor:
    """(..., width) channels of one head after the other, to channels of all heads side by side."""
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
    """Attention over neighbours, weighted by the envelope and shaped by the bonds.

    With a = w exp(q·k / sqrt(d) + b), normalised over an atom's neighbours, each head passes on
    sum_j a_ij (1 + o + g_ij) ∘ v_j.

    Args:
        query: (n_atoms, width), as are ``key`` and ``value``.
        key: What neighbours are looked up by.
        value: What they pass on.
        bond: (n_atoms, K, n_heads + width): the logits' bias b and the values' gate g, the channels of
            the latter as `heads_last` has them.
        gate_bias: (width,) o, added to every bond's gate, with the same order of channels.
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
    """``neighbour_attention`` in plain torch operators."""
    n, k, terms = bond.shape
    n_heads = terms - query.shape[1]
    flat = neighbour.reshape(-1)
    heads = (n, k, n_heads, query.shape[1] // n_heads)
    bias, gate = bond[..., :n_heads], heads_first(1 + gate_bias + bond[..., n_heads:], n_heads).view(heads)
    key, value = key.index_select(0, flat).view(heads), value.index_select(0, flat).view(heads)
    logits = (query.view(n, 1, *heads[2:]) * key).sum(-1) / math.sqrt(heads[3]) + bias
    return (_shares(logits, weight)[..., None] * value * gate).sum(1).flatten(1)


def _shares(logits: Tensor, weight: Tensor) -> Tensor:
    """(n_atoms, K, n_heads) what each neighbour contributes, from logits and the envelope (n_atoms, K)."""
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
        _over_atoms(loops.look, [query, bond, neighbour, logits], [key])
        share, gate_start = _shares(logits, weight), 1 + gate_bias
        _over_atoms(loops.mix, [share, bond, neighbour, out], [value, gate_start])
        ctx.save_for_backward(query, key, value, bond, gate_start, neighbour, share)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bond, gate_start, neighbour, share = ctx.saved_tensors
        n_heads = share.shape[2]
        loops = _loops(n_heads, query.shape[1])
        d_out, d_logits = grads[0].float().contiguous(), torch.empty_like(share)
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        by_atom = [share, bond, neighbour, d_out, d_logits]
        _over_atoms(loops.mix_backward, by_atom, [value, gate_start], d_value)
        mean = (share * d_logits).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp_min(TINY)
        d_logits.sub_(mean).mul_(share)
        _over_atoms(loops.look_backward, [query, neighbour, d_logits, d_query], [key], d_key)
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
    """Run a loop over all atoms, on the threads that torch may use.

    Args:
        loop: Takes arrays in the order of the other arguments.
        by_atom: Tensors of which each thread gets the rows of its atoms.
        whole: Tensors that every thread reads all rows of.
        added_to: The tensor to which any thread may add at any row, so that each has its own; zero before.
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

    look: Callable[..., None]
    mix: Callable[..., None]
    mix_backward: Callable[..., None]
    look_backward: Callable[..., None]
    gate_backward: Callable[..., None]


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Machine code, kept for the next run where there is a folder to keep it in."""
    compile_kept, compile_anew = (
        njit(cache=cache, fastmath=True, nogil=True, error_model="numpy") for cache in (True, False)
    )
    try:
        return cast(Callable[..., None], compile_kept(function))
    except RuntimeError:  # neither the package's folder nor the home can be written to
        return cast(Callable[..., None], compile_anew(function))


def _inlined(function: Callable[..., None]) -> Callable[..., None]:
    """A part of compiled functions, in which the sizes it gets are constants."""
    return cast(Callable[..., None], njit(inline="always")(function))


@lru_cache
def _loops(n_heads: int, width: int) -> _Loops:
    d = width // n_heads
    return _Loops(
        _look(n_heads, d),
        _mix(n_heads, d),
        _mix_backward(n_heads, d),
        _look_backward(n_heads, d),
        _gate_backward(n_heads, d),
    )


# The sizes are constants to the compiler, and inner loops run over the whole width, heads and all: that is
# what fills the vector registers.


@_inlined
def _tile(values: Floats, n_heads: int, d: int, out: Floats) -> None:
    """Each head's value to all its channels."""
    for c in range(d):
        for h in range(n_heads):
            out[c * n_heads + h] = values[h]


@_inlined
def _fold(values: Floats, n_heads: int, d: int, parts: int, sums: Floats, out: Floats) -> None:
    """The sum over each head's channels: first of ``parts`` of them at once, which divide d, as ``sums``."""
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


def _look(n_heads: int, d: int) -> Callable[..., None]:
    scale, width, parts = np.float32(1 / math.sqrt(d)), n_heads * d, math.gcd(d, 4)

    @_compiled
    def look(query: Floats, bond: Floats, neighbour: Indices, logits: Floats, key: Floats) -> None:
        """Products of queries and keys, and the bonds' bias."""
        n, k, _ = logits.shape
        product, sums = np.empty(width, np.float32), np.empty(width // parts, np.float32)
        for i in range(n):
            own = query[i]
            for s in range(k):
                other, logit = key[neighbour[i, s]], logits[i, s]
                for c in range(width):
                    product[c] = own[c] * other[c]
                _fold(product, n_heads, d, parts, sums, logit)
                for h in range(n_heads):
                    logit[h] = logit[h] * scale + bond[i, s, h]

    return look


def _mix(n_heads: int, d: int) -> Callable[..., None]:
    width = n_heads * d

    @_compiled
    def mix(
        share: Floats, bond: Floats, neighbour: Indices, out: Floats, value: Floats, gate_start: Floats
    ) -> None:
        """The neighbours' values, behind their gates, summed by shares."""
        n, k, _ = share.shape
        part = np.empty(width, np.float32)
        for i in range(n):
            mixed = out[i]
            mixed[:] = 0
            for s in range(k):
                other, gate = value[neighbour[i, s]], bond[i, s, n_heads:]
                _tile(share[i, s], n_heads, d, part)
                for c in range(width):
                    mixed[c] += part[c] * other[c] * (gate_start[c] + gate[c])

    return mix


def _mix_backward(n_heads: int, d: int) -> Callable[..., None]:
    width, parts = n_heads * d, math.gcd(d, 4)

    @_compiled
    def mix_backward(
        share: Floats,
        bond: Floats,
        neighbour: Indices,
        d_out: Floats,
        d_share: Floats,
        value: Floats,
        gate_start: Floats,
        d_value: Floats,
    ) -> None:
        """Through the sum to the shares and to the values, which are added to."""
        n, k, _ = share.shape
        part, product = np.empty(width, np.float32), np.empty(width, np.float32)
        sums = np.empty(width // parts, np.float32)
        for i in range(n):
            given = d_out[i]
            for s in range(k):
                other, d_other = value[neighbour[i, s]], d_value[neighbour[i, s]]
                gate = bond[i, s, n_heads:]
                _tile(share[i, s], n_heads, d, part)
                for c in range(width):
                    passed = given[c] * (gate_start[c] + gate[c])
                    d_other[c] += part[c] * passed
                    product[c] = passed * other[c]
                _fold(product, n_heads, d, parts, sums, d_share[i, s])

    return mix_backward


def _look_backward(n_heads: int, d: int) -> Callable[..., None]:
    scale, width = np.float32(1 / math.sqrt(d)), n_heads * d

    @_compiled
    def look_backward(
        query: Floats, neighbour: Indices, d_logits: Floats, d_query: Floats, key: Floats, d_key: Floats
    ) -> None:
        """Through the products to the queries and the keys, which are added to."""
        n, k, _ = d_logits.shape
        part, own = np.empty(width, np.float32), np.empty(width, np.float32)
        for i in range(n):
            total = d_query[i]
            for c in range(width):
                own[c] = query[i, c] * scale
                total[c] = 0
            for s in range(k):
                other, d_other = key[neighbour[i, s]], d_key[neighbour[i, s]]
                _tile(d_logits[i, s], n_heads, d, part)
                for c in range(width):
                    total[c] += part[c] * other[c]
                    d_other[c] += part[c] * own[c]
            for c in range(width):
                total[c] *= scale

    return look_backward


def _gate_backward(n_heads: int, d: int) -> Callable[..., None]:
    width = n_heads * d

    @_compiled
    def gate_backward(
        share: Floats, neighbour: Indices, d_out: Floats, d_bond: Floats, value: Floats
    ) -> None:
        """Through the sum to the bonds' gates."""
        n, k, _ = share.shape
        part = np.empty(width, np.float32)
        for i in range(n):
            given = d_out[i]
            for s in range(k):
                other, d_gate = value[neighbour[i, s]], d_bond[i, s, n_heads:]
                _tile(share[i, s], n_heads, d, part)
                for c in range(width):
                    d_gate[c] = part[c] * given[c] * other[c]

    return gate_backward
