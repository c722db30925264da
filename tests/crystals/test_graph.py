from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch_geometric.data import Batch
from torch_geometric.nn import global_add_pool
from torch_geometric.utils import scatter

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import (
    GraphConfig,
    collate,
    crystal_graph,
    envelope,
    neighbour_table,
    pack_by_atoms,
)

SEEDS = st.integers(0, 2**32 - 1)


def random_crystal(seed: int, n_atoms: int, edge_angstrom: float, skew: float = 0.4) -> Crystal:
    """Atoms anywhere in a cell that is more or less skewed, some of them outside it."""
    rng = np.random.default_rng(seed)
    cell = edge_angstrom * (np.diag(rng.uniform(0.8, 1.3, 3)) + skew * rng.uniform(-1, 1, (3, 3)))
    return Crystal(cell, rng.uniform(-1, 2, (n_atoms, 3)), rng.integers(1, 90, n_atoms))


def pairs(crystal: Crystal, cutoff: float) -> list[dict[int, NDArray[np.float64]]]:
    """For each atom, the sorted distances to every image of every atom: by brute force over images."""
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(crystal.cell), axis=0)).astype(int) + 1
    images = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach)))) @ crystal.cell
    inside = (crystal.frac_coords % 1.0) @ crystal.cell
    found = []
    for centre in inside:
        distance = np.linalg.norm(inside[:, None] + images - centre, axis=2)
        found.append({j: np.sort(d[(d > 1e-6) & (d < cutoff)]) for j, d in enumerate(distance)})
    return found


def test_the_envelope_falls_smoothly_from_one_to_zero() -> None:
    u = np.linspace(0, 1, 1001)
    value = envelope(u)
    assert value[0] == 1
    assert value[-1] == 0
    assert (np.diff(value) <= 0).all()
    assert (envelope(np.array([1.0, 1.5, 9.0])) == 0).all()
    h = 1e-3
    last = envelope(np.array([1 - 2 * h, 1 - h, 1.0]))
    assert abs(last[2] - last[1]) / h < 1e-3
    assert abs(last[2] - 2 * last[1] + last[0]) / h**2 < 0.5  # far from 1: the second derivative is 100
    middle = envelope(np.array([0.85 - h, 0.85, 0.85 + h]))
    assert abs(middle[2] - middle[0]) / h > 1


@settings(max_examples=25)
@given(
    seed=SEEDS,
    n_atoms=st.integers(1, 6),
    edge=st.sampled_from([2.2, 4.0, 9.0]),
    skew=st.sampled_from([0.0, 0.25]),
    k=st.sampled_from([1, 5, 16]),
    cutoff=st.sampled_from([3.0, 6.0]),
)
def test_the_table_holds_the_nearest_of_all_images(
    seed: int, n_atoms: int, edge: float, skew: float, k: int, cutoff: float
) -> None:
    crystal = random_crystal(seed, n_atoms, edge, skew)
    index, distance, weight = neighbour_table(crystal, GraphConfig(k, cutoff))
    assert index.shape == distance.shape == weight.shape == (n_atoms, k)
    for i, by_atom in enumerate(pairs(crystal, cutoff)):
        nearest = np.sort(np.concatenate(list(by_atom.values())))
        reach = nearest[k] if len(nearest) > k else cutoff
        filled = min(k, len(nearest))
        np.testing.assert_allclose(distance[i, :filled], nearest[:filled], atol=1e-5)
        np.testing.assert_allclose(weight[i, :filled], envelope(nearest[:filled] / reach), atol=1e-5)
        assert (weight[i, filled:] == 0).all()
        assert (index[i, filled:] == i).all()
        for j, expected in by_atom.items():  # those nearer than the reach are the same atoms, not others
            mine = distance[i, (index[i] == j) & (distance[i] < reach - 1e-4)]
            np.testing.assert_allclose(np.sort(mine), expected[expected < reach - 1e-4], atol=1e-5)


def test_tied_neighbours_carry_no_weight_where_the_table_ends() -> None:
    """Rock salt: six neighbours at a/2, then twelve at a/sqrt(2); ten places cut that shell."""
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    salt = Crystal(np.eye(3) * 5.6, np.vstack([corners, corners + 0.5]), np.repeat([11, 17], 4))
    _, distance, weight = neighbour_table(salt, GraphConfig(10, 6.0))
    np.testing.assert_allclose(distance[:, :6], 2.8, atol=1e-6)
    assert (weight[:, :6] > 0.1).all()
    assert (weight[:, 6:] < 1e-12).all()


def test_an_atom_without_neighbours_is_filled_with_itself() -> None:
    lonely = Crystal(np.eye(3) * 20, np.array([[0.1, 0.2, 0.3]]), np.array([6]))
    index, distance, weight = neighbour_table(lonely, GraphConfig(4, 6.0))
    assert (index == 0).all()
    assert (distance == 6.0).all()
    assert (weight == 0).all()


@pytest.mark.parametrize("settings", [{"n_neighbours": 0}, {"cutoff_angstrom": 0.5}, {"cutoff_angstrom": 50}])
def test_a_senseless_graph_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        GraphConfig(**settings)  # type: ignore[arg-type]


def test_a_batch_shifts_the_neighbours() -> None:
    graphs = [crystal_graph(random_crystal(s, n, 6.0), GraphConfig(5)) for s, n in ((0, 3), (1, 1), (2, 4))]
    batch = collate(graphs)
    assert batch.n_graphs == 3
    assert batch.n_atoms == 8
    assert batch.structure_idx.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    for i, (first, last) in enumerate(itertools.pairwise(batch.ptr.tolist())):
        rows = slice(first, last)
        assert torch.equal(batch.neighbour[rows] - first, graphs[i].neighbour)
        assert torch.equal(batch.distance[rows], graphs[i].distance)
    for name in ("ptr", "neighbour", "weight", "structure_idx"):
        nested = collate([collate(graphs[:2]), graphs[2]])
        assert torch.equal(getattr(nested, name), getattr(batch, name)), name


def test_torch_geometric_batches_its_view_of_graphs_the_same() -> None:
    graphs = [crystal_graph(random_crystal(s, n, 6.0), GraphConfig(5)) for s, n in ((0, 3), (1, 1), (2, 4))]
    batch = collate(graphs)
    mine, theirs = batch.to_pyg(), Batch.from_data_list([graph.to_pyg() for graph in graphs], ["batch"])
    for name in ("z", "edge_index", "edge_length", "edge_weight", "num_nodes"):
        assert torch.as_tensor(mine[name]).equal(torch.as_tensor(theirs[name])), name
    summed = scatter(mine.edge_weight, mine.edge_index[1], dim_size=mine.num_nodes)
    torch.testing.assert_close(summed, batch.weight.sum(1))
    from_neighbours = scatter(mine.edge_weight * mine.z[mine.edge_index[0]], mine.edge_index[1], dim_size=8)
    torch.testing.assert_close(from_neighbours, (batch.weight * batch.atomic_number[batch.neighbour]).sum(1))
    torch.testing.assert_close(
        global_add_pool(mine.z, mine.batch), scatter(batch.atomic_number, batch.structure_idx)
    )


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_packs_keep_order_bound_and_everything(sizes: list[int], bound: int) -> None:
    packs = list(pack_by_atoms(sizes, bound))
    assert [i for pack in packs for i in pack] == list(range(len(sizes)))
    for pack in packs:
        assert len(pack) == 1 or sum(sizes[i] for i in pack) <= bound
    for pack, following in itertools.pairwise(packs):
        assert sum(sizes[i] for i in pack) + sizes[following[0]] > bound
