"""Attention of each atom over its row of the neighbour table.

Two implementations of one formula: plain torch, which runs anywhere, and a pair of compiled loops for the
CPU. Written with torch operators, the (n_atoms, K, width) intermediates travel through memory a dozen
times; the loops keep them in registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
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
        bond: (n_atoms, K, n_heads + width): the logits' bias b and the values' gate g.
        gate_bias: (width,) o, added to every bond's gate.
        neighbour: (n_atoms, K) int64 indices.
        weight: (n_atoms, K) float32 envelope w.

    Returns:
        (n_atoms, width).
    """
    if query.device.type == "cpu":
        inputs = [t.float().contiguous() for t in (query, key, value, bond, gate_bias)]
        tables = neighbour.contiguous(), weight.contiguous()
        result: Tensor = _CompiledAttention.apply(*inputs, *tables)  # type: ignore[no-untyped-call]
        return result
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
    bias, gate = bond[..., :n_heads], (1 + gate_bias + bond[..., n_heads:]).reshape(heads)
    key, value = key.index_select(0, flat).view(heads), value.index_select(0, flat).view(heads)
    logits = (query.view(n, 1, *heads[2:]) * key).sum(-1) / math.sqrt(heads[3]) + bias
    share = weight[..., None] * torch.exp(logits - logits.amax(1, keepdim=True).detach())
    fading = (weight.sum(1) / FADING).clamp(max=1)[:, None, None]
    share = fading * share / share.sum(1, keepdim=True).clamp_min(TINY)
    return (share[..., None] * value * gate).sum(1).flatten(1)


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
        loops = _loops(bond.shape[2] - query.shape[1], query.shape[1])
        share = query.new_empty(*neighbour.shape, bond.shape[2] - query.shape[1])
        out = torch.empty_like(query)
        loops.look(*_arrays(query, key, bond, neighbour, share))
        share.exp_()
        loops.mix(*_arrays(share, weight, value, bond, gate_bias, neighbour, out))
        ctx.save_for_backward(query, key, value, bond, gate_bias, neighbour, share)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bond, gate_bias, neighbour, share = ctx.saved_tensors
        n_heads = share.shape[2]
        loops = _loops(n_heads, query.shape[1])
        d_out, d_logits = grads[0].float().contiguous(), torch.empty_like(share)
        d_query, d_key, d_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        loops.mix_backward(*_arrays(share, value, bond, gate_bias, neighbour, d_out, d_logits, d_value))
        loops.look_backward(*_arrays(query, key, neighbour, d_logits, d_query, d_key))
        d_bond = d_gate_bias = None
        if ctx.needs_input_grad[3] or ctx.needs_input_grad[4]:
            d_bond = torch.empty_like(bond)
            d_bond[..., :n_heads] = d_logits
            loops.gate_backward(*_arrays(share, value, neighbour, d_out, d_bond))
            d_gate_bias = d_bond[..., n_heads:].sum((0, 1))
        return d_query, d_key, d_value, d_bond, d_gate_bias, None, None


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


# Smaller than any logit; fast mathematics knows no infinity.
_LOWEST = np.finfo(np.float32).min


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Machine code, kept for the next run where there is a folder to keep it in."""
    compile_kept, compile_anew = (
        njit(cache=cache, fastmath=True, nogil=True, error_model="numpy") for cache in (True, False)
    )
    try:
        return cast(Callable[..., None], compile_kept(function))
    except RuntimeError:  # neither the package's folder nor the home can be written to
        return cast(Callable[..., None], compile_anew(function))


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


@_compiled
def _spread(values: Floats, d: int, out: Floats) -> None:
    """Each head's value to all its channels."""
    for h in range(len(values)):
        for c in range(h * d, h * d + d):
            out[c] = values[h]


@_compiled
def _sums(values: Floats, d: int, out: Floats) -> None:
    """The sum over each head's channels."""
    for h in range(len(out)):
        total = np.float32(0)
        for c in range(h * d, h * d + d):
            total += values[c]
        out[h] = total


def _look(n_heads: int, d: int) -> Callable[..., None]:
    scale = np.float32(1 / math.sqrt(d))

    @_compiled
    def look(query: Floats, key: Floats, bond: Floats, neighbour: Indices, logits: Floats) -> None:
        """Logits, each atom's and head's largest taken off."""
        n, k, _ = logits.shape
        product, top = np.empty(n_heads * d, np.float32), np.empty(n_heads, np.float32)
        for i in range(n):
            own = query[i]
            top[:] = _LOWEST
            for s in range(k):
                other, logit = key[neighbour[i, s]], logits[i, s]
                for c in range(n_heads * d):
                    product[c] = own[c] * other[c]
                _sums(product, d, logit)
                for h in range(n_heads):
                    logit[h] = logit[h] * scale + bond[i, s, h]
                    top[h] = max(top[h], logit[h])
            for s in range(k):
                for h in range(n_heads):
                    logits[i, s, h] -= top[h]

    return look


def _mix(n_heads: int, d: int) -> Callable[..., None]:
    one, tiny, fading = np.float32(1), np.float32(TINY), np.float32(1 / FADING)

    @_compiled
    def mix(
        share: Floats,
        weight: Floats,
        value: Floats,
        bond: Floats,
        gate_bias: Floats,
        neighbour: Indices,
        out: Floats,
    ) -> None:
        """Exponentials become shares, in place, and the neighbours' values are summed by them."""
        n, k, _ = share.shape
        total, part = np.empty(n_heads, np.float32), np.empty(n_heads * d, np.float32)
        mixed, start = np.empty(n_heads * d, np.float32), one + gate_bias
        for i in range(n):
            total[:] = 0
            envelope_sum = np.float32(0)
            for s in range(k):
                envelope_sum += weight[i, s]
                for h in range(n_heads):
                    share[i, s, h] *= weight[i, s]
                    total[h] += share[i, s, h]
            for h in range(n_heads):
                total[h] = min(one, envelope_sum * fading) / max(total[h], tiny)
            mixed[:] = 0
            for s in range(k):
                other, gate = value[neighbour[i, s]], bond[i, s, n_heads:]
                for h in range(n_heads):
                    share[i, s, h] *= total[h]
                _spread(share[i, s], d, part)
                for c in range(n_heads * d):
                    mixed[c] += part[c] * other[c] * (start[c] + gate[c])
            out[i] = mixed

    return mix


def _mix_backward(n_heads: int, d: int) -> Callable[..., None]:
    one, tiny = np.float32(1), np.float32(TINY)

    @_compiled
    def mix_backward(
        share: Floats,
        value: Floats,
        bond: Floats,
        gate_bias: Floats,
        neighbour: Indices,
        d_out: Floats,
        d_logits: Floats,
        d_value: Floats,
    ) -> None:
        """Through the sum and the shares to the values, which are added to, and the logits."""
        n, k, _ = share.shape
        mean, part = np.empty(n_heads, np.float32), np.empty(n_heads * d, np.float32)
        whole = np.empty(n_heads, np.float32)
        product, start = np.empty(n_heads * d, np.float32), one + gate_bias
        for i in range(n):
            given = d_out[i]
            mean[:] = 0
            whole[:] = 0
            for s in range(k):
                other, d_other = value[neighbour[i, s]], d_value[neighbour[i, s]]
                gate = bond[i, s, n_heads:]
                _spread(share[i, s], d, part)
                for c in range(n_heads * d):
                    passed = given[c] * (start[c] + gate[c])
                    d_other[c] += part[c] * passed
                    product[c] = passed * other[c]
                _sums(product, d, d_logits[i, s])
                for h in range(n_heads):
                    whole[h] += share[i, s, h]
                    mean[h] += share[i, s, h] * d_logits[i, s, h]
            for h in range(n_heads):
                mean[h] /= max(whole[h], tiny)
            for s in range(k):
                for h in range(n_heads):
                    d_logits[i, s, h] = share[i, s, h] * (d_logits[i, s, h] - mean[h])

    return mix_backward


def _look_backward(n_heads: int, d: int) -> Callable[..., None]:
    scale = np.float32(1 / math.sqrt(d))

    @_compiled
    def look_backward(
        query: Floats, key: Floats, neighbour: Indices, d_logits: Floats, d_query: Floats, d_key: Floats
    ) -> None:
        """Through the products to the queries and the keys, which are added to."""
        n, k, _ = d_logits.shape
        part, total = np.empty(n_heads * d, np.float32), np.empty(n_heads * d, np.float32)
        for i in range(n):
            own = query[i]
            total[:] = 0
            for s in range(k):
                other, d_other = key[neighbour[i, s]], d_key[neighbour[i, s]]
                _spread(d_logits[i, s], d, part)
                for c in range(n_heads * d):
                    total[c] += part[c] * other[c]
                    d_other[c] += part[c] * scale * own[c]
            for c in range(n_heads * d):
                d_query[i, c] = total[c] * scale

    return look_backward


def _gate_backward(n_heads: int, d: int) -> Callable[..., None]:
    @_compiled
    def gate_backward(
        share: Floats, value: Floats, neighbour: Indices, d_out: Floats, d_bond: Floats
    ) -> None:
        """Through the sum to the bonds' gates."""
        n, k, _ = share.shape
        for i in range(n):
            given = d_out[i]
            for s in range(k):
                other, d_gate = value[neighbour[i, s]], d_bond[i, s, n_heads:]
                for h in range(n_heads):
                    p = share[i, s, h]
                    for c in range(h * d, h * d + d):
                        d_gate[c] = p * given[c] * other[c]

    return gate_backward
