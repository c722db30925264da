from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from mofgap.balora import BaLoRAConfig, BaLoRAModel, get_balora_model, load_adapters, lower_rank
from mofgap.balora.config import Posterior
from mofgap.balora.features import FrozenFeatures

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def made(**settings: Any) -> BaLoRAModel:
    model = get_balora_model(net(), BaLoRAConfig(**{"r": 4, **settings}))
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.5)
    return model


class ReadsWeight(nn.Module):
    """Attention of some models reads the weights of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(F.linear(x, self.qkv.weight))
        return y


def test_a_config_is_one() -> None:
    with pytest.raises(TypeError, match=r"config is a dict: write BaLoRAConfig\(...\)"):
        get_balora_model(net(), {"r": 4})  # type: ignore[arg-type]


def test_a_layer_that_is_not_called_is_told_once() -> None:
    model = get_balora_model(ReadsWeight(), BaLoRAConfig(r=2))
    with pytest.warns(UserWarning, match="first forward in training mode: qkv; an adapter learns nothing"):
        model(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(X)
        made()(X)


def test_what_a_lower_rank_moved_into_w0_is_saved(tmp_path: Path) -> None:
    model = made().eval()
    lower_rank(model.layers, 1)
    model.save_pretrained(tmp_path / "once")
    again = BaLoRAModel.from_pretrained(net(), tmp_path / "once")
    torch.testing.assert_close(again(X), model(X))
    torch.testing.assert_close(again.predict(X), model.predict(X))
    again.save_pretrained(tmp_path / "twice")
    torch.testing.assert_close(BaLoRAModel.from_pretrained(net(), tmp_path / "twice")(X), model(X))


def test_layers_that_are_dropped_at_random_are_not_told() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(x if self.training else self.first(x))
            return y

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_balora_model(Dropping(), BaLoRAConfig(r=2))(X)


def test_the_pretrained_w0_comes_back(tmp_path: Path) -> None:
    model, plain, pretrained = made().eval(), made(r=1, lora_alpha=4.0).eval(), net()(X)
    plain.save_pretrained(tmp_path / "plain")
    lower_rank(model.layers, 1)
    model.save_pretrained(tmp_path / "cut")
    loaded = BaLoRAModel.from_pretrained(net(), tmp_path / "cut")
    load_adapters(loaded.model, tmp_path / "plain")
    torch.testing.assert_close(loaded(X), plain(X))
    torch.testing.assert_close(BaLoRAModel.from_pretrained(net(), tmp_path / "cut").unload()(X), pretrained)
    torch.testing.assert_close(model.unload()(X), pretrained)
    (tmp_path / "cut" / "noise_network.safetensors").write_bytes(b"")
    kept = net()
    with pytest.raises(ValueError, match="damaged"):
        BaLoRAModel.from_pretrained(kept, tmp_path / "cut")
    torch.testing.assert_close(kept(X), pretrained)


def test_a_vocabulary_of_peft_replaces_w0_where_it_was_cut(tmp_path: Path) -> None:
    """PEFT saves the weights of an embedding beside its adapter, and no posterior."""

    def made_of_words(rank: int) -> BaLoRAModel:
        torch.manual_seed(0)
        config = BaLoRAConfig(target_modules=("0",), r=rank, lora_alpha=4.0 * rank)
        model = get_balora_model(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)), config).eval()
        nn.init.normal_(model.layers["0"].lora_B)
        return model

    theirs, model = made_of_words(1), made_of_words(2)
    theirs.layers["0"].replace_base(torch.randn(5, 4))
    theirs.save_pretrained(tmp_path)
    for name in ("balora_config.json", "noise_network.safetensors"):
        (tmp_path / name).unlink()
    lower_rank(model.layers, 1)
    load_adapters(model.model, tmp_path)
    torch.testing.assert_close(model(torch.arange(5)), theirs(torch.arange(5)))


def test_peft_reads_what_a_lower_rank_moved_into_w0(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = made().eval()
    lower_rank(model.layers, 1)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(peft.PeftModel.from_pretrained(net(), str(tmp_path)).eval()(X), model(X))


@pytest.mark.parametrize("name", ["past_key_values", "cache_params"])
def test_a_cache_is_refused_where_several_passes_would_fill_it(name: str) -> None:
    model = made()
    calls = (model.predict, model.sample, model.covariance, model)
    for call in calls:
        with pytest.raises(ValueError, match=f"{name}: each of several passes would append to it"):
            call(X, **{name: object()})
    assert model(X).shape == (6, 2)


class Cache:
    """Has the method that all caches of transformers have."""

    def get_seq_length(self) -> int:
        return 0


def test_a_cache_is_refused_under_any_name() -> None:
    model = made()
    for given in (lambda: model.predict(X, cache=Cache()), lambda: model(X, cache=Cache())):
        with pytest.raises(ValueError, match="cache: each of several passes would append to it"):
            given()
    for given in (lambda: model.sample((X, Cache()), 3), lambda: model(X, Cache())):
        with pytest.raises(ValueError, match="Cache: each of several passes would append to it"):
            given()


@pytest.mark.parametrize("posterior", ["network", "constant"])
def test_a_pass_without_gradients_leaves_the_divergence_its_gradient(posterior: Posterior) -> None:
    model = made(posterior=posterior)
    model(X)
    seen, divergence = model.n_seen.clone(), model.kl_loss(5).detach()
    with torch.no_grad():
        model(3 * X)
    assert model.kl_loss(5).requires_grad
    torch.testing.assert_close(model.kl_loss(5).detach(), divergence)
    torch.testing.assert_close(model.n_seen, seen)


def test_a_standardisation_that_was_set_stays_in_the_model_that_loads_it() -> None:
    model, other = made(), made()
    assert model.noise_network is not None and other.noise_network is not None
    model.noise_network.fit_scale(torch.randn(20, 8))
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    before = other.noise_network.feature_mean.clone()
    other(X)
    torch.testing.assert_close(other.noise_network.feature_mean, before)


@pytest.mark.parametrize("n_train", [0, -10])
def test_a_divergence_of_no_input_is_refused(n_train: int) -> None:
    model = made()
    model(X)
    with pytest.raises(ValueError, match=f"n_train must be at least 1, got {n_train}"):
        model.kl_loss(n_train)


@pytest.mark.parametrize("found", [X[:, :1], X[:, :3], X[:, 0], X[:, None]])
def test_features_of_another_width_are_refused(found: Tensor) -> None:
    model = get_balora_model(net(), BaLoRAConfig(r=2, n_features=4), features=lambda x: found)
    with pytest.raises(ValueError, match=r"not \(n_inputs, n_features\) with n_features=4"):
        model(X)


def test_the_wrapped_model_is_in_the_mode_of_its_model() -> None:
    assert get_balora_model(net(), BaLoRAConfig(r=2)).training
    model = get_balora_model(net().eval(), BaLoRAConfig(r=2))
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.5)
    assert not model.training
    torch.testing.assert_close(model(X), model(X), rtol=0, atol=0)


class Graphs(nn.Module):
    """Sums rows by the graph that each is of."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        sums = x.new_zeros(int(graph[-1]) + 1, 8).index_add_(0, graph, torch.tanh(self.a(x)))
        y: Tensor = self.head(sums)
        return y


def test_adapters_that_were_trained_with_rows_want_them_again(tmp_path: Path) -> None:
    graph = torch.tensor([0, 0, 0, 0, 1, 1])
    model = get_balora_model(Graphs(), BaLoRAConfig(r=2, features="a"), rows=lambda x, graph: graph)
    model(X, graph)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a function that gives the rows; give it as rows"):
        BaLoRAModel.from_pretrained(Graphs(), tmp_path)
    loaded = BaLoRAModel.from_pretrained(Graphs(), tmp_path, rows=lambda x, graph: graph)
    assert loaded.predict((X, graph))[1].shape == (2, 1)


@pytest.mark.parametrize("length", [7, 8, 9])
@pytest.mark.parametrize(
    ("module", "last"), [(nn.Conv1d(3, 8, 1), False), (nn.LayerNorm(8), True), (nn.BatchNorm1d(8), False)]
)
def test_the_kind_of_a_module_says_where_its_features_are(module: nn.Module, last: bool, length: int) -> None:
    """A length equal to the width must not change what is averaged."""
    width = 3 if isinstance(module, nn.Conv1d) else 8
    x = torch.randn(2, length, width, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(module, nn.Flatten(), nn.Linear(8 * length, 1)).eval()
    x = x if last else x.movedim(1, -1)
    found = FrozenFeatures(model, BaLoRAConfig(features="0"))(model, (x,), {}, None)
    torch.testing.assert_close(found, module(x).mean(1 if last else 2).detach())


@pytest.mark.parametrize("blocks", ["0", ["0"], 0.5])
def test_blocks_are_named_by_whole_numbers(blocks: Any) -> None:
    with pytest.raises(ValueError, match="layers_to_transform must be whole numbers"):
        BaLoRAConfig(layers_to_transform=blocks)


def test_blocks_may_be_any_whole_numbers() -> None:
    assert BaLoRAConfig(layers_to_transform=range(1, 3)).layers_to_transform == (1, 2)  # type: ignore[arg-type]
    assert BaLoRAConfig(layers_to_transform=[np.int64(1)]).layers_to_transform == (1,)  # type: ignore[arg-type]
    assert BaLoRAConfig(layers_to_transform=2).layers_to_transform == 2


def test_what_is_trained_and_not_saved_is_told(tmp_path: Path) -> None:
    model = made(target_modules=["0"], modules_to_save=["2"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
    model = made(target_modules=["0"])
    model.model.get_submodule("2").requires_grad_(True)
    with pytest.warns(UserWarning, match=r"2\.weight, 2\.bias: trained, but not saved.*modules_to_save"):
        model.save_pretrained(tmp_path)


@pytest.mark.parametrize("settings", [{}, {"target_modules": "2"}, {"posterior": "none"}])
def test_a_lazy_layer_is_to_be_called_first(settings: Any) -> None:
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 1))
    with pytest.raises(ValueError, match=r"0\.weight has no values yet: call the model once"):
        get_balora_model(model, BaLoRAConfig(**settings))
    model(X)
    assert get_balora_model(model, BaLoRAConfig(**settings)).eval()(X).shape == (6, 1)


class Prototypes(nn.Module):
    """Scores of an input are its distances from trained prototypes, which a layer projects too."""

    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(5, 8))
        self.own, self.shared = nn.Linear(8, 8), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(self.shared(x), self.own(self.prototypes))


@pytest.mark.parametrize("noise", ["weights", "rows"])
def test_all_tensors_belong_to_a_batch_of_one(noise: str) -> None:
    torch.manual_seed(0)
    model = get_balora_model(Prototypes(), BaLoRAConfig(r=4, noise=noise, prior_rate=0.001))  # type: ignore[arg-type]
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.5)
    assert torch.isfinite(model(X[:1])).all()
    std, sampled = model.predict(X[:1])[1], model.sample(X[:1], 2000, seed=0).std(0)
    torch.testing.assert_close(sampled, std, rtol=0.1, atol=0)
    with pytest.raises(ValueError, match="tensors must be batch-first"):
        model.predict(X)


@pytest.mark.parametrize("saved", [True, False])
def test_running_means_that_moved_and_are_not_saved_are_told(saved: bool, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    model = get_balora_model(module, BaLoRAConfig(modules_to_save=("1",) if saved else ()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.eval()(X)
        model.save_pretrained(tmp_path)
        model.train()(X)
        if saved:
            model.save_pretrained(tmp_path)
    if not saved:
        with pytest.warns(UserWarning, match=r"^1: training moved running means.*modules_to_save"):
            model.save_pretrained(tmp_path)
