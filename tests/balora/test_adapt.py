from __future__ import annotations

from collections.abc import Callable

import peft
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from mofgap.balora import BaLoRAConfig, adapt, adapted_layers, merge, unadapt
from mofgap.balora.adapt import matches


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(4, 4)
        self.value = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.norm(x + torch.relu(self.query(x)) * self.value(x))
        return out


def make_net() -> nn.Sequential:
    return nn.Sequential(Block(), Block(), nn.Linear(4, 1))


def perturb(net: nn.Module) -> None:
    for layer in adapted_layers(net).values():
        nn.init.normal_(layer.lora_B)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("query",), ["0.query", "1.query"]),
        (("0.query", "2"), ["0.query", "2"]),
        ((r"1\.(query|value)",), ["1.query", "1.value"]),
        ((r".*",), ["0.query", "0.value", "1.query", "1.value", "2"]),
    ],
)
def test_patterns(patterns: tuple[str, ...], names: list[str]) -> None:
    net = make_net()
    layers = adapt(net, BaLoRAConfig(target_modules=patterns))
    assert list(layers) == names == list(adapted_layers(net))
    assert all(net.get_submodule(name) is layer for name, layer in layers.items())


def test_a_name_is_matched_at_its_end_and_at_a_dot() -> None:
    assert matches("a.query", "query")
    assert matches("query", "query")
    assert not matches("a.subquery", "query")
    assert not matches("query.a", "query")


def test_everything_else_is_frozen() -> None:
    net = make_net()
    adapt(net, BaLoRAConfig(target_modules=("query",)))
    trainable = [name for name, p in net.named_parameters() if p.requires_grad]
    assert trainable == ["0.query.lora_A", "0.query.lora_B", "1.query.lora_A", "1.query.lora_B"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("qurey",), r"'qurey' finds no nn.Linear.* in the model; similar names: .*query"),
        (("query", "vlaue"), r"'vlaue' finds no nn.Linear.*similar names: .*value"),
        (("norm",), r"'norm' finds 0.norm, a LayerNorm; only nn.Linear"),
        (("zzzzzz",), r"similar names: 0.query, 0.value"),
    ],
)
def test_a_pattern_that_finds_nothing_is_an_error(patterns: tuple[str, ...], message: str) -> None:
    net = make_net()
    with pytest.raises(ValueError, match=message):
        adapt(net, BaLoRAConfig(target_modules=patterns))
    assert all(p.requires_grad for p in net.parameters())


def test_adapting_twice_is_an_error() -> None:
    net = make_net()
    adapt(net, BaLoRAConfig(target_modules=("query",)))
    with pytest.raises(ValueError, match="adapted already"):
        adapt(net, BaLoRAConfig(target_modules=("value",)))


def test_unadapt_gives_the_model_back() -> None:
    net, x = make_net(), torch.randn(3, 4)
    before, keys = net(x), list(net.state_dict())
    adapt(net, BaLoRAConfig(target_modules=(".*",)))
    perturb(net)
    assert not torch.allclose(net(x), before)
    unadapt(net)
    assert torch.equal(net(x), before)
    assert list(net.state_dict()) == keys


def test_merge_keeps_the_mean() -> None:
    net, x = make_net().double(), torch.randn(3, 4, dtype=torch.float64)
    keys = list(net.state_dict())
    adapt(net, BaLoRAConfig(target_modules=(".*",)))
    perturb(net)
    mean = net(x)
    merge(net)
    torch.testing.assert_close(net(x), mean)
    assert list(net.state_dict()) == keys
    assert not adapted_layers(net)


def test_merge_leaves_a_layer_alone_that_shares_a_weight() -> None:
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).double(), torch.randn(3, 4, dtype=torch.float64)
    net[1].weight = net[0].weight
    adapt(net, BaLoRAConfig(target_modules=("0",)))
    perturb(net)
    mean, other = net[0](x), net[1](x)
    merge(net)
    torch.testing.assert_close(net[0](x), mean)
    assert torch.equal(net[1](x), other)


def test_a_layer_under_two_names_stays_one() -> None:
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    layers = adapt(net, BaLoRAConfig(target_modules=("0",)))
    assert net[0] is net[2] is layers["0"]
    unadapt(net)
    assert net[0] is net[2] is shared


def test_the_output_projection_of_torch_attention_is_refused() -> None:
    net = nn.Sequential(nn.MultiheadAttention(4, 2))
    with pytest.raises(ValueError, match="never calls it"):
        adapt(net, BaLoRAConfig(target_modules=("out_proj",)))


def test_torch_transformer_does_not_bypass_the_adapters_in_evaluation() -> None:
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), num_layers=2
    ).eval()
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        plain = encoder(x, src_key_padding_mask=padding)
        adapt(encoder, BaLoRAConfig(target_modules=("linear1", "linear2")))
        new = encoder(x, src_key_padding_mask=padding)
        perturb(encoder)
        adapted = encoder(x, src_key_padding_mask=padding)
        merge(encoder)
        merged = encoder(x, src_key_padding_mask=padding)
    torch.testing.assert_close(new[~padding], plain[~padding])
    torch.testing.assert_close(merged[~padding], adapted[~padding])
    assert (adapted - plain)[~padding].abs().mean() > 1e-2


class Scaled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 0.1


def hooked() -> nn.Linear:
    linear = nn.Linear(4, 4)
    linear.register_forward_hook(lambda module, args, output: 2 * output)
    return linear


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Scaled(4, 4), "0 has a forward method that differs"),
        (hooked(), "0 has hooks"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "0 has a parametrised weight"),
        (prune.identity(nn.Linear(4, 4), "weight"), "0 has a parametrised weight"),
    ],
)
def test_a_layer_that_is_more_than_linear_is_refused(layer: nn.Linear, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapt(nn.Sequential(layer), BaLoRAConfig(target_modules=("0",)))


@pytest.mark.parametrize("other", [nn.LSTM(4, 4), nn.Conv1d(4, 4, 1), nn.LayerNorm(4)])
def test_a_name_that_a_layer_of_another_kind_has_too_is_refused(other: nn.Module) -> None:
    net = nn.ModuleDict({"a": nn.ModuleDict({"proj": other}), "b": nn.ModuleDict({"proj": nn.Linear(4, 4)})})
    with pytest.raises(ValueError, match=rf"'proj' finds a\.proj, a {type(other).__name__}; only"):
        adapt(net, BaLoRAConfig(target_modules=("proj",)))
    assert list(adapt(net, BaLoRAConfig(target_modules=(r"b\..*",)))) == ["b.proj"]


def test_a_model_of_peft_is_refused() -> None:
    theirs = peft.get_peft_model(make_net(), peft.LoraConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match="adapted by PEFT: call its merge_and_unload"):
        adapt(theirs, BaLoRAConfig())
    assert list(adapt(theirs.merge_and_unload(), BaLoRAConfig(target_modules=("2",)))) == ["2"]


def test_a_list_of_modules_is_no_module_to_save() -> None:
    net = nn.ModuleDict({"heads": nn.ModuleList([nn.Linear(4, 2)]), "body": nn.Linear(4, 4)})
    with pytest.raises(ValueError, match="heads is a container; name the modules in it"):
        adapt(net, BaLoRAConfig(target_modules=("body",), modules_to_save=("heads",)))
    adapt(net, BaLoRAConfig(target_modules=("body",), modules_to_save="heads.0"))  # type: ignore[arg-type]


@pytest.mark.parametrize("take_off", [unadapt, merge])
def test_a_transformer_of_torch_is_as_before_without_its_adapters(
    take_off: Callable[[nn.Module], None],
) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 2).eval(), torch.randn(2, 5, 8)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    with torch.no_grad():
        expected = net(x, src_key_padding_mask=padding)
        adapt(net, BaLoRAConfig(target_modules=("linear1",)))
        take_off(net)
        assert torch.equal(net.eval()(x, src_key_padding_mask=padding), expected)
