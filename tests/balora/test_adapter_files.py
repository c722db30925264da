from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mofgap.balora import (
    AdaptedLinear,
    BaLoRAConfig,
    NoiseNetwork,
    adapt,
    adapter_files,
    get_balora_model,
    load_adapters,
    load_config,
    load_noise_network,
    save_adapters,
)

CONFIG = BaLoRAConfig(target_modules=("0", "2.lin"), r=3, lora_alpha=7.0, prior_rate=0.3)


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.sublin = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.sublin(self.lin(x))
        return out


def make_base() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), Inner())


def make_adapted() -> tuple[nn.Sequential, dict[str, AdaptedLinear]]:
    net = make_base()
    layers = adapt(net, CONFIG)
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
    return net, layers


def test_round_trip(tmp_path: Path) -> None:
    net, layers = make_adapted()
    save_adapters(tmp_path / "new" / "folder", layers, CONFIG)
    fresh = make_base()
    loaded = load_adapters(fresh, tmp_path / "new" / "folder")
    x = torch.randn(5, 4)
    assert list(loaded) == list(layers)
    assert torch.equal(fresh(x), net(x))
    assert load_config(tmp_path / "new" / "folder") == CONFIG
    for layer in loaded.values():
        nn.init.zeros_(layer.lora_B)
    load_adapters(fresh, tmp_path / "new" / "folder")
    assert torch.equal(fresh(x), net(x))


def test_what_is_loaded_is_not_shadowed_by_what_was_folded(tmp_path: Path) -> None:
    net, layers = make_adapted()
    save_adapters(tmp_path, layers, CONFIG)
    expected = net(torch.ones(1, 4))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
        layer.fold()
    load_adapters(net, tmp_path)
    assert torch.equal(net(torch.ones(1, 4)), expected)


def test_a_layer_whose_name_ends_that_of_another_is_loaded_alone(tmp_path: Path) -> None:
    def make() -> nn.ModuleDict:
        return nn.ModuleDict({"lin": nn.Linear(3, 3), "inner": nn.ModuleDict({"lin": nn.Linear(3, 3)})})

    config = BaLoRAConfig(target_modules=("^lin$",), r=2)
    save_adapters(tmp_path, adapt(make(), config), config)
    assert list(load_adapters(make(), tmp_path)) == ["lin"]


def test_noise_network_round_trip(tmp_path: Path) -> None:
    _, layers = make_adapted()
    network = NoiseNetwork(5, 2)
    features = torch.randn(9, 5) + 3
    network.fit_scale(features)
    save_adapters(tmp_path, layers, CONFIG, network)
    fresh = NoiseNetwork(5, 2)
    load_noise_network(fresh, tmp_path)
    assert torch.equal(fresh(features), network(features))


def test_peft_loads_the_mean(tmp_path: Path) -> None:
    net, layers = make_adapted()
    save_adapters(tmp_path, layers, CONFIG, NoiseNetwork(5, 2))
    x = torch.randn(5, 4)
    theirs = peft.PeftModel.from_pretrained(make_base(), str(tmp_path))
    torch.testing.assert_close(theirs(x), net(x))
    adapted = [n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert adapted == ["base_model.model.0", "base_model.model.2.lin"]


def test_an_adapter_of_peft_loads_here(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, lora_alpha=5, target_modules=["lin"], init_lora_weights=False)
    theirs = peft.get_peft_model(make_base(), config).eval()
    theirs.save_pretrained(str(tmp_path))
    ours, x = make_base(), torch.randn(5, 4)
    assert list(load_adapters(ours, tmp_path)) == ["2.lin"]
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"use_rslora": True}, "use_rslora=True"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"an_option_of_tomorrow": {"a": 1}}, "an_option_of_tomorrow"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
    ],
)
def test_other_adapters_of_peft_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    peft.get_peft_model(make_base(), peft.LoraConfig(target_modules=["lin"])).save_pretrained(str(tmp_path))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        load_adapters(make_base(), tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BaLoRAConfig(target_modules=("0",), r=3, lora_alpha=7.0), r"2\.lin.* is not in the model"),
        (BaLoRAConfig(target_modules=(".*",), r=3, lora_alpha=7.0), r"2\.sublin.* is missing"),
        (BaLoRAConfig(target_modules=CONFIG.target_modules, r=6, lora_alpha=14.0), r"is \(3, 4\)"),
        (BaLoRAConfig(target_modules=CONFIG.target_modules, r=3, lora_alpha=8.0), "scaled by"),
    ],
)
def test_adapters_that_do_not_fit_are_refused(tmp_path: Path, config: BaLoRAConfig, message: str) -> None:
    save_adapters(tmp_path, make_adapted()[1], CONFIG)
    net = make_base()
    adapt(net, config)
    with pytest.raises(ValueError, match=message):
        load_adapters(net, tmp_path)


def test_a_model_that_adapters_do_not_fit_is_left_as_it_was(tmp_path: Path) -> None:
    save_adapters(tmp_path, make_adapted()[1], CONFIG)
    net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), Inner())
    with pytest.raises(ValueError, match=r"0\.lora_A\.weight .*\(3, 4\).*\(3, 5\)"):
        load_adapters(net, tmp_path)
    assert not any(isinstance(module, AdaptedLinear) for module in net.modules())
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "noise_network.safetensors"])
def test_damaged_weights_are_named(tmp_path: Path, name: str) -> None:
    net, layers = make_adapted()
    network = NoiseNetwork(5, len(layers))
    save_adapters(tmp_path, layers, CONFIG, network)
    (tmp_path / name).write_bytes(b"cut off")
    with pytest.raises(ValueError, match=name):
        load_adapters(net, tmp_path)
        load_noise_network(network, tmp_path)


def test_no_adapter_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="adapter_config"):
        load_adapters(make_base(), tmp_path)


def test_an_unknown_setting_on_disk_is_refused(tmp_path: Path) -> None:
    save_adapters(tmp_path, make_adapted()[1], CONFIG)
    path = tmp_path / "balora_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prior_rat": 0.5}))
    with pytest.raises(ValueError, match="did you mean 'prior_rate'"):
        load_adapters(make_base(), tmp_path)


@pytest.mark.parametrize(
    "text",
    ['{"peft_type": "LORA', "[]", '{"peft_type": "LORA"}', '{"peft_type": "LORA", "target_modules": null}'],
)
def test_a_damaged_config_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match=r"adapter_config\.json is damaged"):
        load_config(tmp_path)


def test_a_damaged_file_of_ours_is_named(tmp_path: Path) -> None:
    save_adapters(tmp_path, make_adapted()[1], CONFIG)
    path = tmp_path / "balora_config.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ValueError, match=r"balora_config\.json is damaged"):
        load_config(tmp_path)


def test_a_save_that_dies_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, layers = make_adapted()
    save_adapters(tmp_path, layers, CONFIG)
    before = load_file(tmp_path / "adapter_model.safetensors")
    files = sorted(path.name for path in tmp_path.iterdir())

    def half_written(tensors: object, path: Path, metadata: object = None) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(adapter_files, "save_file", half_written)
    nn.init.ones_(layers["0"].lora_B)
    with pytest.raises(OSError, match="disk full"):
        save_adapters(tmp_path, layers, CONFIG)
    after = load_file(tmp_path / "adapter_model.safetensors")
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_no_noise_network_of_other_adapters_stays(tmp_path: Path) -> None:
    layers = make_adapted()[1]
    save_adapters(tmp_path, layers, CONFIG, NoiseNetwork(3, len(layers)))
    save_adapters(tmp_path, layers, CONFIG)
    with pytest.raises(FileNotFoundError):
        load_noise_network(NoiseNetwork(3, len(layers)), tmp_path)


def test_a_trained_part_of_several_layers_comes_back(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.body(x))
            return out

    x = torch.randn(3, 4)
    net = Net()
    model = get_balora_model(net, BaLoRAConfig(r=2, target_modules=("body",), modules_to_save=("head",)))
    with torch.no_grad():
        for weight in net.head.parameters():
            weight.add_(0.1)
    model.save_pretrained(tmp_path)
    fresh = Net()
    load_adapters(fresh, tmp_path)
    torch.testing.assert_close(fresh.eval()(x), model.eval()(x))
