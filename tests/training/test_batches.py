from __future__ import annotations

import pytest
import torch
from torch import distributed

from mofgap.training.batches import PackedSampler


def test_the_order_of_batches_depends_on_seed_and_epoch_alone() -> None:
    sizes = torch.tensor([5, 3, 8, 2, 2, 9, 1, 4])
    positions = [0, 2, 3, 4, 6, 7]
    sampler = PackedSampler(positions, sizes, 10, seed=1)
    first = list(sampler)
    assert sorted(i for pack in first for i in pack) == positions
    assert all(sizes[pack].sum() <= 10 for pack in first)
    assert len(sampler) == len(first)
    sampler.set_epoch(3)
    third = list(sampler)
    assert third != first
    again = PackedSampler(positions, sizes, 10, seed=1)
    again.set_epoch(3)
    assert list(again) == third
    ordered = PackedSampler(positions, sizes, 10, seed=None)
    assert [i for pack in ordered for i in pack] == positions


def test_processes_share_the_batches_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = PackedSampler(range(8), torch.tensor([6] * 8), 10, seed=1)
    alone = list(sampler)
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        assert len(sampler) == 4
        shares.append(list(sampler))
    assert shares == [alone[::2], alone[1::2]]


def test_every_epoch_has_the_same_number_of_batches() -> None:
    n_atoms = torch.tensor([7, 30, 12, 25, 3, 18, 9, 28, 14, 5] * 4)
    sampler = PackedSampler(range(len(n_atoms)), n_atoms, 40, seed=3)
    counts = set()
    for epoch in range(12):
        sampler.set_epoch(epoch)
        counts.add(len(list(sampler)))
    assert counts == {len(sampler)}
