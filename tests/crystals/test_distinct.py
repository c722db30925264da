from __future__ import annotations

import numpy as np
import pytest
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.distinct import atom_classes, distinct_store
from mofgap.crystals.graph import GraphConfig, crystal_graph
from mofgap.crystals.store import build_store
from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.gap.head import GapHead

CONFIG = GraphConfig(8, 5.0)
SMALL = CrystalTransformerConfig(
    n_blocks=2, width=16, n_neighbours=8, cutoff_angstrom=5.0, n_heads=2, edge_width=8, virtual_node=True
)


def rutile(a: float = 4.6, *, moved: float = 0.0) -> Crystal:
    """TiO2: two titanium atoms and four oxygen atoms that symmetry makes equal."""
    x = 0.305
    oxygen = [(x, x, 0), (-x, -x, 0), (0.5 + x, 0.5 - x, 0.5), (0.5 - x, 0.5 + x, 0.5)]
    frac_coords = np.array([(0, 0, 0), (0.5, 0.5, 0.5), *oxygen]) % 1
    frac_coords[2] += [moved / a, 0, 0]
    return Crystal(np.diag([a, a, 2.95]), frac_coords, np.array([22, 22, 8, 8, 8, 8]))


def test_atoms_of_one_orbit_share_a_class() -> None:
    found = atom_classes(crystal_graph(rutile(), CONFIG), 1e-3)[0]
    assert found.tolist() == [found[0]] * 2 + [found[2]] * 4
    assert found[0] != found[2]


@pytest.mark.parametrize(("moved", "equal"), [(0.004, True), (0.1, False)])
def test_a_moved_atom_stays_equal_within_the_tolerance(moved: float, equal: bool) -> None:
    found = atom_classes(crystal_graph(rutile(moved=moved), CONFIG), 0.02)[0]
    assert (found.max() == 1) == equal


def test_equal_neighbours_are_not_enough_if_theirs_differ() -> None:
    """In a chain of H between Li and Na ends, an atom's class depends on what its neighbours see."""
    numbers = np.array([3, 1, 1, 1, 1, 11])
    frac_coords = np.array([[0.5, 0.5, z] for z in np.arange(1, 7) / 20])
    chain = Crystal(np.diag([20.0, 20.0, 20.0]), frac_coords, numbers)
    graph = crystal_graph(chain, GraphConfig(8, 1.5))
    assert len(np.unique(atom_classes(graph, 1e-3)[0])) == 6


def test_an_atom_behind_the_last_neighbour_counts() -> None:
    """Of two equal H2, one has a neighbour of the other kind in reach that its table has no place for."""
    places = np.array([[5, 5, 5], [5, 5, 5.74], [20, 5, 5], [20, 5, 5.74], [21.5, 5, 5.37]])
    crystal = Crystal(np.diag([30.0, 10, 10]), places / [30, 10, 10], np.array([1, 1, 1, 1, 11]))
    found = atom_classes(crystal_graph(crystal, GraphConfig(1, 3.0)), 1e-3)[0].tolist()
    assert found[0] == found[1] and found[2] == found[3] and found[0] != found[2]


def test_a_network_gives_the_same_for_distinct_atoms() -> None:
    torch.manual_seed(0)
    encoder, head = CrystalTransformer(SMALL).eval(), GapHead(3 * 16, 8)
    for node in encoder.virtual:
        torch.nn.init.normal_(node.linear.weight)
    rng = np.random.default_rng(0)
    lone = Crystal(np.eye(3) * 6, rng.random((5, 3)), np.array([30, 8, 8, 6, 1]))
    store = build_store([rutile(), lone, rutile(4.8)], CONFIG)
    smaller, index = distinct_store(store, 1e-3)
    assert smaller.n_atoms.tolist() == [2, 5, 2]
    assert torch.equal(smaller.atomic_number[index], store.atomic_number)
    chosen = [2, 0, 1]
    whole, distinct = store.batch(chosen), smaller.batch(chosen)
    assert distinct.share is not None
    assert distinct.atomic_number[:2].tolist() == [22, 8]
    torch.testing.assert_close(distinct.share[:2], torch.tensor([2 / 6, 4 / 6]))
    with torch.no_grad():
        expected, found = (head(encoder(batch), batch) for batch in (whole, distinct))
    torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=0)
    assert abs(expected[0][0] - expected[0][2]) > 1e-3
