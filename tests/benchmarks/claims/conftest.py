"""A task that a tiny random network learns in a second."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """Two layers, the mean over tokens, and a head."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, n_classes)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hidden = self.second(self.first(x).tanh()).tanh() * mask[..., None]
        logits: Tensor = self.head(hidden.sum(1) / mask.sum(1, keepdim=True))
        return logits


class TinyBackbone:
    target_modules = ("first", "second")
    head = "head"
    n_features = 4

    def features(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x * mask[..., None]).mean(1)

    def network(self, n_classes: int, seed: int) -> nn.Module:
        torch.manual_seed(0)
        network = Tiny(n_classes)
        torch.manual_seed(seed)
        network.head.reset_parameters()
        return network


@pytest.fixture
def backbone() -> TinyBackbone:
    return TinyBackbone()


@pytest.fixture
def task() -> object:
    from benchmarks.claims.task import Split, Task

    def split(n: int, seed: int, *, shift: float = 0.0, labelled: bool = True) -> Split:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(n, 3, 4, generator=generator)
        labels = (x.sum(1)[:, 0] > 0).long() + (x.sum(1)[:, 1] > 1).long()
        return Split((x + shift, torch.ones(n, 3)), labels if labelled else None)

    shifted = {"far": split(20, 4, shift=3.0), "unlabelled": split(15, 5, labelled=False)}
    return Task("signs", "tiny", 3, split(60, 1), split(30, 2), split(40, 3), shifted)
