from __future__ import annotations

import copy
import json
from pathlib import Path

import peft
import pytest
import torch
from torch import nn

from mofgap.balora import BaLoRAConfig, BaLoRAModel, get_balora_model, lower_rank
from tests.balora.test_wrapper import POSTERIORS, Net, X, made


@pytest.mark.filterwarnings("ignore:norm. training moved running means")
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_round_trip_and_into_peft(tmp_path: Path, posterior: str) -> None:
    patterns = {"rank_pattern": {"layers.1": 5}, "alpha_pattern": {"layers.0": 4.0}}
    model = made(posterior=posterior, modules_to_save=["head"], **patterns)
    model(X)
    nn.init.normal_(model.model.head.trained.weight)
    model.eval().save_pretrained(tmp_path)
    again = BaLoRAModel.from_pretrained(_same_base(model), tmp_path)
    torch.testing.assert_close(again.predict(X), model.predict(X))
    assert again.config == model.config and not again.training
    theirs = peft.PeftModel.from_pretrained(_same_base(model), str(tmp_path)).eval()
    torch.testing.assert_close(theirs(X), model(X))


def _same_base(model: BaLoRAModel) -> Net:
    return copy.deepcopy(model).unload()  # type: ignore[return-value]


def test_a_function_of_the_user_is_asked_for_again(tmp_path: Path) -> None:
    model = get_balora_model(Net(), BaLoRAConfig(n_features=4), features=lambda x: x)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="features"):
        BaLoRAModel.from_pretrained(Net(), tmp_path)
    with pytest.raises(ValueError, match="give it as features"):
        BaLoRAModel.from_pretrained(_same_base(model), tmp_path)
    again = BaLoRAModel.from_pretrained(_same_base(model), tmp_path, features=lambda x: x)
    torch.testing.assert_close(again.predict(X), model.eval().predict(X))


def test_adapters_of_lower_rank_are_saved_as_they_are(tmp_path: Path) -> None:
    model = made(r=4).eval()
    lower_rank(model.layers, 2)
    model.save_pretrained(tmp_path)
    again = BaLoRAModel.from_pretrained(_same_base(model), tmp_path)
    assert {layer.rank for layer in again.layers.values()} == {2}
    torch.testing.assert_close(again(X), model(X))


def test_a_model_is_as_before_where_its_adapters_do_not_load(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    (tmp_path / "noise_network.safetensors").unlink()
    net = Net()
    with pytest.raises(FileNotFoundError):
        BaLoRAModel.from_pretrained(net, tmp_path)
    assert all(p.requires_grad for p in net.parameters()) and type(net.head) is nn.Linear


def test_adapters_stay_where_others_are_loaded_on_top(tmp_path: Path) -> None:
    model = made().eval()
    model.save_pretrained(tmp_path)
    expected = model(X)
    with pytest.raises(ValueError, match="adapted already"):
        BaLoRAModel.from_pretrained(model.model, tmp_path)
    torch.testing.assert_close(model(X), expected, rtol=0, atol=0)


def test_an_adapter_of_peft_gets_the_posterior_that_is_asked_for(tmp_path: Path) -> None:
    lora = peft.LoraConfig(r=2, target_modules=["head"], init_lora_weights=False)
    theirs = peft.get_peft_model(Net(), lora).eval()
    theirs.save_pretrained(tmp_path)
    base = copy.deepcopy(theirs).unload()
    asked = BaLoRAConfig(posterior="constant", beta=0.1, r=7)
    ours = BaLoRAModel.from_pretrained(base, tmp_path, config=asked)
    found = ours.balora_config
    assert (found.posterior, found.beta, found.r) == ("constant", 0.1, 2)
    torch.testing.assert_close(ours(X), theirs(X))
    ours.save_pretrained(tmp_path / "own")
    with pytest.raises(ValueError, match="a config of their own"):
        BaLoRAModel.from_pretrained(Net(), tmp_path / "own", config=asked)
    content = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(content | {"lora_alpha": 0}))
    with pytest.raises(ValueError, match="lora_alpha must be positive"):
        BaLoRAModel.from_pretrained(Net(), tmp_path)


def test_adapters_are_not_loaded_into_a_model_without_weights(tmp_path: Path) -> None:
    made().save_pretrained(tmp_path)
    with torch.device("meta"):
        empty = Net()
    with pytest.raises(ValueError, match="no weights yet: load them before the adapters"):
        BaLoRAModel.from_pretrained(empty, tmp_path)
