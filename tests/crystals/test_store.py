from __future__ import annotations

import numpy as np
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import GraphConfig, collate, crystal_graph
from mofgap.crystals.store import build_store

CONFIG = GraphConfig(6, 5.0)


def make_crystals() -> list[Crystal]:
    rng = np.random.default_rng(7)
    return [
        Crystal(np.eye(3) * 6 + rng.normal(0, 0.3, (3, 3)), rng.random((n, 3)), rng.integers(1, 100, n))
        for n in rng.integers(1, 9, 6)
    ]


def test_a_batch_of_the_store_is_the_batch_of_its_graphs() -> None:
    crystals = make_crystals()
    store = build_store(crystals, CONFIG)
    assert len(store) == len(crystals)
    assert store.n_atoms.tolist() == [c.n_atoms for c in crystals]
    chosen = [4, 0, 5, 4]
    batch, expected = store.batch(chosen), collate([crystal_graph(crystals[i], CONFIG) for i in chosen])
    for name in ("atomic_number", "neighbour", "distance", "weight", "structure_idx", "ptr"):
        mine, other = getattr(batch, name), getattr(expected, name)
        assert torch.equal(mine, other), name
        assert mine.dtype == other.dtype, name
    assert batch.position.tolist() == chosen
    assert torch.equal(store.atomic_number[batch.row].long(), batch.atomic_number)
    assert torch.equal(store[4].neighbour, crystal_graph(crystals[4], CONFIG).neighbour)


def test_batches_hold_the_structures_asked_for_in_order_and_within_the_bound() -> None:
    store = build_store(make_crystals(), CONFIG)
    wanted = [5, 1, 3, 0, 2]
    batches = list(store.batches(wanted, 8))
    assert [i for batch in batches for i in batch.position.tolist()] == wanted
    assert len(batches) > 1
    assert all(batch.n_atoms <= 8 or batch.n_graphs == 1 for batch in batches)
    assert list(store.batches([], 8)) == []
