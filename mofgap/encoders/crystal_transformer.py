"""A small transformer over a crystal's neighbour table.

In each block an atom attends to its K nearest neighbours. Features of the bond (distance and both elements)
give a bias of the logits and a gate of the values. Attention weights are multiplied by the graph's envelope,
so that the weight of a neighbour falls smoothly to zero at the end of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.crystals.graph import CrystalGraph
from mofgap.encoders.attention import heads_last, neighbour_attention
from mofgap.encoders.element_features import ELEMENT_FEATURES, element_dropout
from mofgap.encoders.encoder import Encoder, EncoderConfig


@dataclass(frozen=True)
class CrystalTransformerConfig(EncoderConfig):
    """Size of the encoder.

    Attributes:
        n_blocks: Attention blocks.
        n_heads: Attention heads; divides ``width``.
        n_radial: Radial basis functions of a distance.
        edge_width: Features of a bond.
        ffn_width: Hidden features of a block's feed-forward part.
        elements: Source of an element's features: a ``table`` with one trained row for each element, or
            ``descriptors`` (see `mofgap.encoders.element_features`), which elements without training
            structures have too.
        virtual_node: Whether, after each block, a linear function of the mean atom of the structure is added
            to each atom.
        dropout: Rate of dropout in training, on the outputs of attention and of the feed-forward part.

    Raises:
        ValueError: If ``width`` is not a multiple of ``n_heads``, or ``elements`` is unknown.
        ValueError: If a whole number is below 1, ``dropout`` is not in 0 to below 1, or ``cutoff_angstrom``
            is not in 1 to 12.
    """

    n_heads: int = 8
    n_radial: int = 32
    edge_width: int = 64
    ffn_width: int = 256
    elements: str = "table"
    virtual_node: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in 0 to below 1, not {self.dropout}")
        if self.width % self.n_heads:
            raise ValueError(f"width {self.width} is not a multiple of n_heads {self.n_heads}")
        if self.elements not in ELEMENT_FEATURES:
            raise ValueError(f"elements: {self.elements!r} is none of {', '.join(ELEMENT_FEATURES)}")


class RadialBasis(nn.Module):
    """Gaussians evenly spaced in the logarithm of the distance: narrowest at the lengths of bonds."""

    centres: Tensor

    def __init__(self, n_radial: int, cutoff_angstrom: float) -> None:
        super().__init__()
        low, high = math.log(0.8), math.log(cutoff_angstrom)  # from the shortest bonds on
        self.register_buffer("centres", torch.linspace(low, high, n_radial), persistent=False)
        self.inverse_width = (n_radial - 1) / (high - low)

    def forward(self, distance: Tensor) -> Tensor:
        """Expand distances (...) in angstrom into (..., n_radial)."""
        t = (distance.clamp_min(1e-3).log()[..., None] - self.centres) * (self.inverse_width * 0.5**0.5)
        # Below exp(-50) a Gaussian is negligible; subnormal numbers would be slow to multiply.
        gaussians: Tensor = t.square_().neg_().clamp_min_(-50.0).exp_()
        return gaussians


class Bonds(nn.Module):
    """Features of each entry of the neighbour table, from distance and both elements."""

    def __init__(self, config: CrystalTransformerConfig) -> None:
        super().__init__()
        self.basis = RadialBasis(config.n_radial, config.cutoff_angstrom)
        self.radial = nn.Linear(config.n_radial, config.edge_width)
        self.centre = ELEMENT_FEATURES[config.elements](config.edge_width)
        self.other = ELEMENT_FEATURES[config.elements](config.edge_width)

    def forward(
        self, atomic_number: Tensor, neighbour: Tensor, distance: Tensor, own: Tensor | None
    ) -> Tensor:
        """(n_atoms, K) tables to bond features (n_atoms, K, edge_width); ``own`` as in `ElementTable`."""
        x = self.radial(self.basis(distance))
        other = F.embedding(neighbour, self.other(atomic_number, own))
        x = x.add_(self.centre(atomic_number, own)[:, None]).add_(other)
        return F.silu(x, inplace=not x.requires_grad)


class Block(nn.Module):
    """Attention over neighbours, then a feed-forward part; both residual and pre-normalised."""

    def __init__(self, config: CrystalTransformerConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.dropout = config.dropout
        self.norm_attention = nn.LayerNorm(config.width)
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)
        self.bond = nn.Linear(config.edge_width, config.n_heads + config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm_ffn = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.ffn_width)
        self.down = nn.Linear(config.ffn_width, config.width)

    def forward(self, x: Tensor, bond: Tensor, neighbour: Tensor, weight: Tensor) -> Tensor:
        """Atom features (n_atoms, width) to the same; ``bond`` is from `bond_terms`."""
        y = self.norm_attention(x)
        query, key, value = self.query(y), self.key(y), self.value(y)
        gate_bias = heads_last(self.bond.bias[self.n_heads :], self.n_heads)
        attended = self.out(neighbour_attention(query, key, value, bond, gate_bias, neighbour, weight))
        drops = self.training and torch.is_grad_enabled()  # features that are computed once have no dropout
        x = x + F.dropout(attended, self.dropout, drops)
        down = self.down(F.silu(self.up(self.norm_ffn(x))))
        return x + F.dropout(down, self.dropout, drops)

    def bond_terms(self, bonds: Tensor) -> Tensor:
        """(n_atoms, K, n_heads + width) ``bond`` of `neighbour_attention`, from features of the bonds.

        The bias of the layer is left out. In the logits it does not change attention. `neighbour_attention`
        adds it to the gates, which saves one pass over the largest tensor.

        Args:
            bonds: (n_atoms, K, edge_width).
        """
        weight = self.bond.weight.T
        logits, gates = weight[:, : self.n_heads], heads_last(weight[:, self.n_heads :], self.n_heads)
        return F.linear(bonds, torch.cat([logits, gates], dim=1).T)


class VirtualNode(nn.Module):
    """Adds a linear function of the mean atom of a structure to its atoms; it starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, batch: CrystalGraph) -> Tensor:
        """Atom features (n_atoms, width) to the same; a supercell gives the same features."""
        update: Tensor = self.linear(F.layer_norm(batch.mean(x), x.shape[1:]))
        return x + update.to(x.dtype)[batch.structure_idx]


class CrystalTransformer(Encoder):
    """Atom features from a crystal graph, one set per block.

    Args:
        config: Size of the encoder.
    """

    Config = CrystalTransformerConfig
    adaptable = ("query", "key", "value", "out", "up", "down")

    def __init__(self, config: CrystalTransformerConfig) -> None:
        super().__init__(config)
        self.drops_elements = config.elements == "descriptors"
        self.is_random = self.drops_elements or config.dropout > 0
        self.element = ELEMENT_FEATURES[config.elements](config.width)
        self.bonds = Bonds(config)
        self.environment = nn.Linear(config.edge_width, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_blocks))
        n_virtual = config.n_blocks if config.virtual_node else 0
        self.virtual = nn.ModuleList(VirtualNode(config.width) for _ in range(n_virtual))
        self.norm = nn.LayerNorm(config.width)

    def embed(self, batch: CrystalGraph) -> tuple[Tensor, list[Callable[[], Tensor]]]:
        """Features of the atoms from elements and bonds; a function for each block's `bond_terms`."""
        drops = self.drops_elements and self.training and torch.is_grad_enabled()
        own = element_dropout(batch) if drops else None
        bonds = self.bonds(batch.atomic_number, batch.neighbour, batch.distance, own)
        # A weighted sum, not a mean, so that it depends on the coordination number.
        summed = torch.bmm(batch.weight[:, None], bonds).squeeze(1)
        terms: list[Callable[[], Tensor]] = []
        for i, block in enumerate(self.blocks):
            term = partial(cast(Block, block).bond_terms, bonds)
            # A frozen block runs once. The others keep their terms, which all passes over the batch use.
            terms.append(term if i < self.n_frozen - 1 else cache(term))
        return self.element(batch.atomic_number, own) + self.environment(summed), terms

    @property
    def element_tables(self) -> list[nn.Embedding]:
        """Empty if features come from descriptors: the residuals of unseen elements are zero."""
        return [] if self.drops_elements else super().element_tables

    def run_block(self, i: int, x: Tensor, batch: CrystalGraph, extra: Any) -> Tensor:
        """Attention over neighbours and feed-forward part of a block."""
        result: Tensor = self.blocks[i](x, extra[i](), batch.neighbour, batch.weight)
        return self.virtual[i](result, batch) if self.virtual else result

    def finish(self, x: Tensor) -> Tensor:
        """Normalise the last output."""
        result: Tensor = self.norm(x)
        return result
