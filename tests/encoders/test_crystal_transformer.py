from __future__ import annotations

import numpy as np
import pytest
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import GraphConfig, collate, crystal_graph
from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig, RadialBasis

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
