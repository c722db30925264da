from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mofgap.balora import AdaptedLinear

sizes = st.integers(1, 7)


@settings(max_examples=30)
@given(d_in=sizes, d_out=sizes, rank=sizes, bias=st.booleans(), shape=st.lists(st.integers(0, 3), max_size=3))
def test_identity_at_init(d_in: int, d_out: int, rank: int, bias: bool, shape: list[int]) -> None:
    base = nn.Linear(d_in, d_out, bias=bias)
    x = torch.randn(*shape, d_in)
    expected = base(x)
    assert torch.equal(AdaptedLinear(base, rank=rank)(x), expected)


@settings(max_examples=30)
@given(d_in=sizes, d_out=sizes, rank=sizes, lora_alpha=st.floats(0.1, 100))
def test_mean_is_the_lora_formula_and_merges(d_in: int, d_out: int, rank: int, lora_alpha: float) -> None:
    layer = AdaptedLinear(nn.Linear(d_in, d_out).double(), rank=rank, lora_alpha=lora_alpha)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(4, d_in, dtype=torch.float64)
    weight = layer.base.weight + lora_alpha / rank * layer.lora_B @ layer.lora_A
    expected = x @ weight.T + layer.base.bias
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.merge()(x), expected)


def test_start_of_the_factors() -> None:
    layer = AdaptedLinear(nn.Linear(400, 3), rank=50, init_scale=0.5)
    assert layer.lora_A.std().item() == pytest.approx(0.5 / 20, rel=0.05)
    assert not layer.lora_B.any()


def test_only_the_factors_get_gradients() -> None:
    layer = AdaptedLinear(nn.Linear(3, 2), rank=2)
    layer(torch.randn(5, 3)).square().sum().backward()
    assert layer.base.weight.grad is None
    assert layer.base.bias.grad is None
    assert layer.lora_B.grad is not None
    assert layer.lora_B.grad.any()


def test_half_precision_base_keeps_its_output_type() -> None:
    layer = AdaptedLinear(nn.Linear(3, 2).bfloat16(), rank=2)
    assert layer.lora_A.dtype == torch.float32
    assert layer(torch.randn(5, 3).bfloat16()).dtype == torch.bfloat16


def test_disabled_is_the_base() -> None:
    layer = AdaptedLinear(nn.Linear(3, 2), rank=2)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(5, 3)
    layer.enabled = False
    assert torch.equal(layer(x), layer.base(x))


def test_shape_attributes_and_repr() -> None:
    layer = AdaptedLinear(nn.Linear(3, 2), rank=4, lora_alpha=8)
    assert (layer.in_features, layer.out_features, layer.rank) == (3, 2, 4)
    assert "rank=4, scaling=2" in repr(layer)


def test_a_folded_layer_gives_the_same_mean_and_moves_with_the_model():
    layer = AdaptedLinear(torch.nn.Linear(5, 3), rank=2)
    torch.nn.init.normal_(layer.lora_B)
    x = torch.randn(4, 5)
    expected = layer(x)
    layer.fold()
    torch.testing.assert_close(layer(x), expected)
    assert "folded" not in layer.state_dict()
    assert layer.double()(x.double()).dtype == torch.float64


def test_what_was_folded_is_dropped_where_weights_may_change() -> None:
    layer = AdaptedLinear(nn.Linear(5, 3), rank=2)
    x = torch.randn(4, 5)
    state = {name: torch.randn_like(value) for name, value in layer.state_dict().items()}
    layer.fold()
    layer.load_state_dict(state)
    plain = AdaptedLinear(nn.Linear(5, 3), rank=2)
    plain.load_state_dict(state)
    assert torch.equal(layer(x), plain(x))
    layer.eval().fold()
    layer.train()
    nn.init.zeros_(layer.lora_B)
    assert torch.equal(layer(x), layer.base(x))


def test_weight_and_bias_are_those_of_the_base() -> None:
    base = nn.Linear(3, 2)
    layer = AdaptedLinear(base)
    assert layer.weight is base.weight
    assert layer.bias is base.bias
    assert set(layer.state_dict()) == {"lora_A", "lora_B", "base.weight", "base.bias"}
