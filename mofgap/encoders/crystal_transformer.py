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
from typing import cast

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
        angles: Features of the angles between bonds that each block adds (see `Angles`); 0 for none.
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
    angles: int = 0
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

    def __init__(self, n_radial: int, cutoff_angstrom: float, shortest_angstrom: float = 0.8) -> None:
        super().__init__()
        low, high = math.log(shortest_angstrom), math.log(cutoff_angstrom)
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


class Angles(nn.Module):
    """Adds what an atom's bonds form together, so that angles between them are seen; it starts at zero.

    Of two sums over the neighbours, of a bond's features times spherical harmonics of its direction, the
    scalar product is taken for each degree. It holds each pair of bonds with the Legendre polynomial of
    their angle, and rotations leave it as it is (the power spectrum of Bartok, Kondor and Csanyi, Phys. Rev.
    B 87, 184115, 2013).
    """

    def __init__(self, config: CrystalTransformerConfig) -> None:
        super().__init__()
        n = config.angles
        self.norm = nn.LayerNorm(config.width)
        self.atom = nn.Linear(config.width, 2 * n)
        self.bond = nn.Linear(config.edge_width, 2 * n)
        self.up = nn.Linear(3 * n, config.width)
        self.down = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor, bonds: Tensor, harmonics: Tensor, neighbour: Tensor) -> Tensor:
        """Atom features (n_atoms, width) to the same.

        Args:
            x: (n_atoms, width) atom features.
            bonds: (n_atoms, K, edge_width) features of the bonds.
            harmonics: (n_atoms, 15, K) of `weighted_harmonics`.
            neighbour: (n_atoms, K) int64 indices.
        """
        message = self.bond(bonds) * F.embedding(neighbour, 1 + self.atom(self.norm(x)))
        first, second = torch.bmm(harmonics.to(message.dtype), message).float().chunk(2, dim=2)
        degrees = (first * second).split([3, 5, 7], dim=1)
        spectrum = torch.cat([degree.sum(1) for degree in degrees], dim=1)
        update: Tensor = self.down(F.silu(self.up(spectrum)))
        return x + update


def weighted_harmonics(direction: Tensor, weight: Tensor) -> Tensor:
    """Real spherical harmonics of degree 1 to 3 times the envelope, (n_atoms, 15, K).

    The sum over the orders of one degree, for two directions, is the Legendre polynomial of their angle.

    Args:
        direction: (n_atoms, K, 3) unit vectors; zero gives no meaningful value and must have no weight.
        weight: (n_atoms, K).
    """
    x, y, z = direction.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    a, b, c, d = 3**0.5, 10**0.5 / 4, 15**0.5, 6**0.5 / 4
    first = [x, y, z]
    second = [a * x * y, a * y * z, a * x * z, 0.5 * (2 * zz - xx - yy), 0.5 * a * (xx - yy)]
    third = [
        b * y * (3 * xx - yy),
        b * x * (xx - 3 * yy),
        c * x * y * z,
        0.5 * c * z * (xx - yy),
        d * y * (4 * zz - xx - yy),
        d * x * (4 * zz - xx - yy),
        0.5 * z * (2 * zz - 3 * xx - 3 * yy),
    ]
    return torch.stack([*first, *second, *third], dim=1) * weight[:, None]


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


@dataclass(frozen=True)
class BlockInputs:
    """What the blocks need of the bonds.

    Attributes:
        terms: A function for each block's `Block.bond_terms`.
        bonds: (n_atoms, K, edge_width) features of the bonds.
        harmonics: (n_atoms, 15, K) of `weighted_harmonics`; None without `Angles`.
    """

    terms: list[Callable[[], Tensor]]
    bonds: Tensor
    harmonics: Tensor | None


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
        n_angles = config.n_blocks if config.angles else 0
        self.angles = nn.ModuleList(Angles(config) for _ in range(n_angles))
        self.norm = nn.LayerNorm(config.width)

    def embed(self, batch: CrystalGraph) -> tuple[Tensor, BlockInputs]:
        """Features of the atoms from elements and bonds, and what the blocks need of the bonds."""
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
        harmonics = weighted_harmonics(batch.direction, batch.weight) if self.angles else None
        x = self.element(batch.atomic_number, own) + self.environment(summed)
        return x, BlockInputs(terms, bonds, harmonics)

    @property
    def element_tables(self) -> list[nn.Embedding]:
        """Empty if features come from descriptors: the residuals of unseen elements are zero."""
        return [] if self.drops_elements else super().element_tables

    def run_block(self, i: int, x: Tensor, batch: CrystalGraph, extra: BlockInputs) -> Tensor:
        """Attention over neighbours and feed-forward part of a block."""
        result: Tensor = self.blocks[i](x, extra.terms[i](), batch.neighbour, batch.weight)
        if extra.harmonics is not None:
            result = self.angles[i](result, extra.bonds, extra.harmonics, batch.neighbour)
        return self.virtual[i](result, batch) if self.virtual else result

    def finish(self, x: Tensor) -> Tensor:
        """Normalise the last output."""
        result: Tensor = self.norm(x)
        return result
