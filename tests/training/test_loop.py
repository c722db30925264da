from __future__ import annotations

import itertools

import torch

from mofgap.training.loop import warmup_cosine


def test_the_rate_rises_and_falls_to_zero() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, total_steps=20, warmup=0.2)
    rates = []
    for _ in range(21):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert max(rates) == 2.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[3:]))
    assert rates[12] == 1.0
    assert rates[20] == 0.0
