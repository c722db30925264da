from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mofgap.balora import AdaptedLayer, BaLoRAConfig, adapt


class SetModel(nn.Module):
    """One number for a set of rows, from layers on rows and, after pooling, on inputs."""

    def __init__(self, d_in: int = 5, width: int = 12) -> None:
        super().__init__()
        self.embed = nn.Linear(d_in, width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x: Tensor, row_to_input: Tensor, n_inputs: int) -> Tensor:
        h = torch.tanh(self.embed(x))
        h = h + torch.tanh(self.mix(h))
        h = h.flatten(1, -2).sum(1) if h.ndim > 2 else h
        pooled = h.new_zeros(n_inputs, h.shape[-1]).index_add(0, row_to_input, h)
        out: Tensor = self.out(torch.tanh(pooled)).squeeze(-1)
        return out


def perturb(layers: dict[str, AdaptedLayer]) -> None:
    """Give B values, so that the adapters do something."""
    for layer in layers.values():
        nn.init.normal_(layer.lora_B, std=0.3)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_set_model() -> Callable[..., tuple[SetModel, dict[str, AdaptedLayer]]]:
    def make(**settings: object) -> tuple[SetModel, dict[str, AdaptedLayer]]:
        model = SetModel().double()
        config = BaLoRAConfig.from_dict({"target_modules": ["embed", "mix", "out"], "r": 3, **settings})
        layers = adapt(model, config)
        perturb(layers)
        return model, layers

    return make
