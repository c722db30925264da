from __future__ import annotations

import pytest
import torch
from torch import nn

from mofgap.balora import AdaptedLinear, BaLoRAConfig, adapt
from mofgap.balora.dropout import dropout


def adapted_layer() -> AdaptedLinear:
    layer = adapt(nn.Sequential(nn.Linear(16, 12)), BaLoRAConfig(("0",), r=3))["0"]
    assert isinstance(layer, AdaptedLinear)
    nn.init.normal_(layer.lora_B, std=0.3)
    return layer


def test_dropout_scales_what_it_keeps_of_the_adapters_input() -> None:
    layer = adapted_layer()
    x = torch.randn(400, layer.in_features)
    with torch.no_grad(), dropout({"layer": layer}, 0.25, torch.Generator().manual_seed(0)):
        mine = layer(x)
    kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) >= 0.25
    seen = torch.where(kept, x / 0.75, 0.0)
    with torch.no_grad():
        theirs = layer.base(x) + layer.scaling * seen @ layer.lora_A.T @ layer.lora_B.T
    assert abs(kept.float().mean() - 0.75) < 0.02
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_no_dropout_changes_nothing_and_a_rate_of_one_is_refused() -> None:
    layer = adapted_layer()
    x = torch.randn(3, layer.in_features)
    with dropout({"layer": layer}, 0.0):
        assert torch.equal(layer(x), layer(x))
    with pytest.raises(ValueError, match="rate"), dropout({"layer": layer}, 1.0):
        pass
