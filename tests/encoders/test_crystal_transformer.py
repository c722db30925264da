from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import GraphConfig, collate, crystal_graph
from mofgap.encoders.crystal_transformer import (
    CrystalTransformer,
    CrystalTransformerConfig,
    RadialBasis,
    weighted_harmonics,
)

CONFIG = CrystalTransformerConfig(
    n_blocks=2, width=16, n_heads=4, n_radial=8, edge_width=8, ffn_width=24, n_neighbours=6
)


def make_crystal(n_atoms: int, edge_angstrom: float = 6.0) -> Crystal:
    rng = np.random.default_rng(n_atoms)
    return Crystal(np.eye(3) * edge_angstrom, rng.random((n_atoms, 3)), rng.integers(1, 90, n_atoms))


@pytest.fixture
def encoder() -> CrystalTransformer:
    torch.manual_seed(0)
    return CrystalTransformer(CONFIG).eval()


@pytest.mark.parametrize("name", ["bond", "radial", "environment"])
def test_what_cannot_be_adapted_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="query, key, value, out, up, down"):
        CrystalTransformer(CONFIG).freeze_below(["blocks.1.query", f"blocks.1.{name}"])


def test_every_block_gives_features_of_every_atom(encoder: CrystalTransformer) -> None:
    batch = collate([crystal_graph(make_crystal(n), encoder.graph_config) for n in (3, 5)])
    features = encoder(batch)
    assert features.shape == (8, encoder.n_outputs, encoder.width) == (8, 3, 16)
    assert features.dtype == torch.float32
    assert encoder.graph_config == GraphConfig(6, 6.0)
    torch.testing.assert_close(encoder(batch, encoder.run_frozen(batch)), features)


def test_a_lonely_atom_has_finite_features(encoder: CrystalTransformer) -> None:
    lonely = Crystal(np.eye(3) * 30, np.zeros((1, 3)), np.array([30]))
    features = encoder(crystal_graph(lonely, encoder.graph_config))
    assert torch.isfinite(features).all()
    features.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_harmonics_of_two_directions_give_legendre_polynomials_of_their_angle() -> None:
    direction = torch.nn.functional.normalize(torch.randn(3, 6, 3, dtype=torch.float64), dim=-1)
    weight = torch.rand(3, 6, dtype=torch.float64)
    cosine = direction @ direction.mT
    expected = [cosine, (3 * cosine**2 - 1) / 2, (5 * cosine**3 - 3 * cosine) / 2]
    degrees = weighted_harmonics(direction, weight).split([3, 5, 7], dim=1)
    for found, legendre in zip(degrees, expected, strict=True):
        torch.testing.assert_close(found.mT @ found, weight[:, :, None] * weight[:, None] * legendre)


def seeing_angles() -> CrystalTransformer:
    torch.manual_seed(0)
    encoder = CrystalTransformer(replace(CONFIG, angles=4)).eval()
    for angles in encoder.angles:
        torch.nn.init.normal_(angles.down.weight)
    return encoder


def test_features_with_angles_do_not_change_when_the_crystal_is_turned() -> None:
    encoder, crystal = seeing_angles(), make_crystal(5)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]  # with or without a mirror
    turned = replace(crystal, cell=crystal.cell @ turn)
    before, after = (encoder(crystal_graph(c, encoder.graph_config)) for c in (crystal, turned))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_angles_tell_a_bent_chain_from_a_straight_one(encoder: CrystalTransformer) -> None:
    """The distances between all atoms in reach are the same."""
    ends = {"bent": [2.0, 0, 0], "straight": [0, 0, -2.0]}
    chains = [
        Crystal(np.eye(3) * 20, np.array([[0, 0, 0], [0, 0, 2.0], end]) / 20, np.array([30, 8, 8]))
        for end in ends.values()
    ]
    graphs = [crystal_graph(chain, GraphConfig(6, 2.5)) for chain in chains]
    torch.testing.assert_close(encoder(graphs[0]), encoder(graphs[1]))
    bent, straight = (seeing_angles()(graph) for graph in graphs)
    assert (bent - straight).abs().max() > 0.01


def test_angles_start_without_effect(encoder: CrystalTransformer) -> None:
    torch.manual_seed(0)
    with_angles = CrystalTransformer(replace(CONFIG, angles=4)).eval()
    with_angles.load_state_dict(encoder.state_dict(), strict=False)
    graph = crystal_graph(make_crystal(4), encoder.graph_config)
    torch.testing.assert_close(with_angles(graph), encoder(graph))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"width 10 .*n_heads 4"):
        CrystalTransformerConfig(width=10, n_heads=4)


def test_the_basis_tells_distances_apart() -> None:
    basis = RadialBasis(8, 6.0)
    values = basis(torch.tensor([0.0, 0.8, 1.5, 6.0]))
    assert values.shape == (4, 8)
    assert torch.isfinite(values).all()
    assert values[1].argmax() == 0
    assert values[3].argmax() == 7
    assert values[1].max() == pytest.approx(1)
