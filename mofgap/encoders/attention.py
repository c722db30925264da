"""Attention of each atom over its row of the neighbour table.

Two implementations of one formula: plain torch, which runs anywhere, and a pair of compiled loops for the
CPU. Written with torch operators, the (n_atoms, K, width) intermediates travel through memory a dozen
times; the loops keep them in registers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

TINY = 1e-6
"""Smallest sum of weights that is divided by: an atom without neighbours receives nothing."""


def neighbour_attention(
    query: Tensor, key: Tensor, value: Tensor, bond: Tensor, neighbour: Tensor, weight: Tensor
) -> Tensor:
    """Attention over neighbours, weighted by the envelope and shaped by the bonds.

    With a = w exp(q·k / sqrt(d) + b), normalised over an atom's neighbours, each head passes on
    sum_j a_ij (1 + g_ij) ∘ v_j.

    Args:
        query: (n_atoms, width), as are ``key`` and ``value``.
        key: What neighbours are looked up by.
        value: What they pass on.
        bond: (n_atoms, K, n_heads + width): the logits' bias b and the values' gate g.
        neighbour: (n_atoms, K) int64 indices.
        weight: (n_atoms, K) float32 envelope w.

    Returns:
        (n_atoms, width).
    """
    if query.device.type == "cpu":
        inputs = [t.float().contiguous() for t in (query, key, value, bond)]
        tables = neighbour.contiguous(), weight.contiguous()
        result: Tensor = _CompiledAttention.apply(*inputs, *tables)  # type: ignore[no-untyped-call]
        return result
    return reference_attention(query, key, value, bond, neighbour, weight)


def reference_attention(
    query: Tensor, key: Tensor, value: Tensor, bond: Tensor, neighbour: Tensor, weight: Tensor
) -> Tensor:
    """``neighbour_attention`` in plain torch operators."""
    n, k, terms = bond.shape
    n_heads = terms - query.shape[1]
    flat = neighbour.reshape(-1)
    heads = (n, k, n_heads, query.shape[1] // n_heads)
    bias, gate = bond[..., :n_heads], bond[..., n_heads:].reshape(heads)
    key, value = key.index_select(0, flat).view(heads), value.index_select(0, flat).view(heads)
    logits = (query.view(n, 1, *heads[2:]) * key).sum(-1) / math.sqrt(heads[3]) + bias
    share = weight[..., None] * torch.exp(logits - logits.amax(1, keepdim=True).detach())
    share = share / share.sum(1, keepdim=True).clamp_min(TINY)
    return (share[..., None] * value * (1 + gate)).sum(1).flatten(1)


class _CompiledAttention(torch.autograd.Function):
    """The compiled loops as an operator with a gradient."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bond: Tensor, neighbour: Tensor, weight: Tensor
    ) -> Tensor:
        n_heads = bond.shape[2] - query.shape[1]
        logits = query.new_empty(*neighbour.shape, n_heads)
        out = torch.empty_like(query)
        _logits(*_arrays(query, key, bond, neighbour, logits))
        share = weight[..., None] * torch.exp(logits - logits.amax(1, keepdim=True))
        share /= share.sum(1, keepdim=True).clamp_min(TINY)
        _mix(*_arrays(share, value, bond, neighbour, out))
        ctx.save_for_backward(query, key, value, bond, neighbour, share)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bond, neighbour, share = ctx.saved_tensors
        n_heads = share.shape[2]
        d_bond = torch.empty_like(bond) if ctx.needs_input_grad[3] else bond.new_empty(0, 0, 0)
        d_out, d_share, d_value = (
            grads[0].float().contiguous(),
            torch.empty_like(share),
            torch.zeros_like(value),
        )
        _mix_backward(*_arrays(share, value, bond, neighbour, d_out, d_share, d_value, d_bond))
        d_logits = share * (d_share - (share * d_share).sum(1, keepdim=True))
        if ctx.needs_input_grad[3]:
            d_bond[..., :n_heads] = d_logits
        d_logits /= math.sqrt(query.shape[1] // n_heads)
        d_query, d_key = torch.empty_like(query), torch.zeros_like(key)
        _logits_backward(*_arrays(query, key, neighbour, d_logits, d_query, d_key))
        return d_query, d_key, d_value, d_bond if ctx.needs_input_grad[3] else None, None, None


def _arrays(*tensors: Tensor) -> list[Any]:
    return [t.detach().numpy() for t in tensors]


# Inner loops run over the whole width, heads and all, so that the compiler fills its vector registers.
_compiled = njit(cache=True, fastmath=True, nogil=True, error_model="numpy")


@_compiled
def _repeat(values: Floats, times: int, out: Floats) -> None:
    for h in range(len(values)):
        for c in range(h * times, (h + 1) * times):
            out[c] = values[h]


@_compiled
def _logits(query: Floats, key: Floats, bond: Floats, neighbour: Indices, logits: Floats) -> None:
    n, k, n_heads = logits.shape
    width = query.shape[1]
    d = width // n_heads
    scale = np.float32(1 / math.sqrt(d))
    product = np.empty(width, np.float32)
    for i in range(n):
        own = query[i]
        for s in range(k):
            other = key[neighbour[i, s]]
            for c in range(width):
                product[c] = own[c] * other[c]
            for h in range(n_heads):
                dot = np.float32(0)
                for c in range(h * d, (h + 1) * d):
                    dot += product[c]
                logits[i, s, h] = dot * scale + bond[i, s, h]


@_compiled
def _mix(share: Floats, value: Floats, bond: Floats, neighbour: Indices, out: Floats) -> None:
    n, k, n_heads = share.shape
    width = value.shape[1]
    d = width // n_heads
    total, spread = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(n):
        total[:] = 0
        for s in range(k):
            _repeat(share[i, s], d, spread)
            other, gate = value[neighbour[i, s]], bond[i, s, n_heads:]
            for c in range(width):
                total[c] += spread[c] * other[c] * (np.float32(1) + gate[c])
        out[i] = total


@_compiled
def _mix_backward(
    share: Floats,
    value: Floats,
    bond: Floats,
    neighbour: Indices,
    d_out: Floats,
    d_share: Floats,
    d_value: Floats,
    d_bond: Floats,
) -> None:
    n, k, n_heads = share.shape
    width = value.shape[1]
    d = width // n_heads
    passed, spread = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(n):
        given = d_out[i]
        for s in range(k):
            _repeat(share[i, s], d, spread)
            other, gate = value[neighbour[i, s]], bond[i, s, n_heads:]
            d_other = d_value[neighbour[i, s]]
            for c in range(width):
                passed[c] = given[c] * (np.float32(1) + gate[c])
            for c in range(width):
                d_other[c] += spread[c] * passed[c]
            for c in range(width):
                passed[c] *= other[c]
            for h in range(n_heads):
                dot = np.float32(0)
                for c in range(h * d, (h + 1) * d):
                    dot += passed[c]
                d_share[i, s, h] = dot
            if d_bond.size:
                d_gate = d_bond[i, s, n_heads:]
                for c in range(width):
                    d_gate[c] = spread[c] * given[c] * other[c]


@_compiled
def _logits_backward(
    query: Floats, key: Floats, neighbour: Indices, d_logits: Floats, d_query: Floats, d_key: Floats
) -> None:
    n, k, n_heads = d_logits.shape
    width = query.shape[1]
    d = width // n_heads
    total, spread = np.empty(width, np.float32), np.empty(width, np.float32)
    for i in range(n):
        own = query[i]
        total[:] = 0
        for s in range(k):
            _repeat(d_logits[i, s], d, spread)
            other, d_other = key[neighbour[i, s]], d_key[neighbour[i, s]]
            for c in range(width):
                total[c] += spread[c] * other[c]
            for c in range(width):
                d_other[c] += spread[c] * own[c]
        d_query[i] = total
