from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from mofgap.balora import BaLoRAConfig, BaLoraConfig, BaLoRAModel, get_balora_model
from mofgap.balora.model import evaluation_mode

POSTERIORS = ("network", "constant", "diagonal", "analytic", "none")


class Net(nn.Module):
    def __init__(self, k: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(8, 8)])
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, k)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = self.drop(torch.tanh(layer(x)))
        y: Tensor = self.head(self.norm(x))
        return y


def made(net: nn.Module | None = None, **settings: Any) -> BaLoRAModel:
    torch.manual_seed(0)
    config = BaLoRAConfig.from_dict({"target_modules": "all-linear", "r": 3, "n_train": 10, **settings})
    model = get_balora_model(Net() if net is None else net, config)
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.5)
    return model


X = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))


def test_one_class_under_two_spellings() -> None:
    assert BaLoraConfig is BaLoRAConfig


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_the_users_own_loop_trains_what_it_should(posterior: str) -> None:
    model = made(posterior=posterior)
    statistics = model.model.norm.num_batches_tracked
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    trained = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(X), torch.tensor([0, 1] * 3)) + model.kl_loss(10)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], before) for name, before in frozen.items())
    still = [name for name, before in trained.items() if torch.equal(now[name], before)]
    assert not still
    assert int(statistics) == 2  # alpha's own pass counts for nothing


@pytest.mark.parametrize("posterior", POSTERIORS[:-1])
def test_training_samples_and_evaluation_does_not(posterior: str) -> None:
    model = made(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), posterior=posterior)
    first = model(X)
    assert not torch.allclose(first, model(X))
    model.eval()
    assert torch.equal(model(X), model(X))
    mean, std = model.predict(X)
    torch.testing.assert_close(mean, model(X).detach())
    assert mean.shape == std.shape == (6, 2)
    assert not mean.requires_grad and not std.requires_grad and (std > 0).all()


@pytest.mark.parametrize("posterior", POSTERIORS[:-1])
def test_the_closed_form_agrees_with_samples(posterior: str) -> None:
    settings = {"initial_alpha": 0.003, "curvature": 300.0}
    model = made(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)), posterior=posterior, **settings)
    _, std = model.eval().predict(X)
    sampled = model.predict(X, samples=600)[1]
    assert ((sampled / std).log().abs() < 0.25).all()


def test_samples_have_seeds_and_leave_the_mode_alone() -> None:
    model = made()
    first, second, other = (model.sample(X, 3, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (3, 6, 2)
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert model.training and model.model.drop.training
    model.eval()
    assert torch.equal(model.sample(X, 3, seed=0), first)  # without dropout in either mode


def test_kl_loss_needs_a_forward_and_one_number_of_inputs() -> None:
    model = made()
    with pytest.raises(RuntimeError, match="forward in training mode"):
        model.kl_loss(10)
    model(X)
    with pytest.raises(ValueError, match="n_train is 11"):
        model.kl_loss(11)


def test_kl_loss_of_the_prior_itself_by_hand() -> None:
    model = made(posterior="constant", prior_rate=0.2, beta=0.5)
    model(X)
    elements = 3 * (4 + 8 + 8)  # of each A, at alpha = c: 1 / (2 c) nats an element
    assert model.kl_loss(10).item() == pytest.approx(0.5 / 10 * elements / (2 * 0.25))


def test_analytic_alpha_is_the_least_of_the_loss() -> None:
    """By a grid over alpha of curvature times half the variance, plus the divergence."""
    model = made(posterior="analytic", curvature=3.0, beta=0.2).eval()
    with torch.no_grad():
        alpha, rows = model._alpha_of((X,), {})
    found, _ = model._joint((X,), {}, rows)

    def loss(alpha: Tensor) -> Tensor:
        return 1.5 * found.variance(alpha).sum(1) + 0.2 / 10 * model.kl(alpha)

    for layer in range(alpha.shape[1]):
        for factor in (0.9, 1.1):
            moved = alpha.clone()
            moved[:, layer] *= factor
            assert (loss(moved) > loss(alpha)).all()


def test_adapters_off_is_the_pretrained_model_with_its_head() -> None:
    net = Net().eval()
    expected = net(X)
    model = made(net, modules_to_save=["head"]).eval()
    assert list(model.layers) == ["layers.0", "layers.1"]
    nn.init.normal_(model.model.head.trained.weight)
    assert not torch.allclose(model(X), expected)
    with model.disable_adapter():
        assert torch.equal(model(X), expected)
    mean = model(X)
    torch.testing.assert_close(model.merge_and_unload()(X), mean)
    model.eval()  # still a module, with nothing to end


def test_unload_gives_the_model_back() -> None:
    net = Net().eval()
    expected, names = net(X), list(net.state_dict())
    given_back = made(net, modules_to_save=["head"]).unload()
    assert given_back is net and torch.equal(net.eval()(X), expected)
    assert list(net.state_dict()) == names


def test_a_copy_can_be_made_between_forward_and_backward() -> None:
    model = made()
    loss = model(X).sum()
    twin = copy.deepcopy(model)
    loss.backward()
    assert torch.equal(twin.eval()(X), model.eval()(X))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["query", "key"], "layers_to_transform": [1], "layers_pattern": "blocks"},
        {"target_modules": ["query"], "layers_to_transform": 0},
        {"target_modules": r".*key"},
        {"target_modules": ["query", "head"], "layers_to_transform": [1]},
        {"target_modules": ["query"], "layers_to_transform": []},
        {"target_modules": "all-linear", "modules_to_save": ["head"]},
    ],
)
def test_the_layers_are_those_of_peft(settings: dict[str, Any]) -> None:
    def make() -> nn.Module:
        blocks = [nn.ModuleDict({"query": nn.Linear(4, 4), "key": nn.Linear(4, 4)}) for _ in range(2)]
        return nn.ModuleDict(
            {"model": nn.ModuleDict({"blocks": nn.ModuleList(blocks)}), "head": nn.Linear(4, 1)}
        )

    theirs = peft.get_peft_model(make(), peft.LoraConfig(**settings))
    adapted = [n for n, m in theirs.named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    ours = get_balora_model(make(), BaLoRAConfig(**settings))
    assert [f"base_model.model.{name}" for name in ours.layers] == adapted


def test_how_many_are_trained(capsys: pytest.CaptureFixture[str]) -> None:
    model = made(posterior="none")
    theirs = peft.get_peft_model(Net(), peft.LoraConfig(r=3, target_modules="all-linear"))
    model.print_trainable_parameters()
    ours = capsys.readouterr().out
    theirs.print_trainable_parameters()
    assert ours == capsys.readouterr().out


def test_too_many_outputs_for_a_closed_form() -> None:
    model = made(Net(k=300), posterior="constant")
    with pytest.raises(ValueError, match="300 outputs"):
        model.predict(X)
    assert model.predict(X, samples=4)[1].shape == (6, 300)


def test_a_head_of_several_layers_is_trained_whole() -> None:
    head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    model = made(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), head), target_modules=["0"], modules_to_save=["2"])
    (model(X).sum() + model.kl_loss(10)).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "trained" in n)


def test_the_mean_of_a_model_in_half_precision_keeps_a_small_update() -> None:
    model = made(nn.Sequential(nn.Linear(256, 4)).bfloat16(), r=1, lora_alpha=1.0).eval()
    layer = model.layers["0"]
    layer.lora_A.data.fill_(1)
    layer.lora_B.data.fill_(5e-5)
    x = torch.ones(2, 256, dtype=torch.bfloat16)
    torch.testing.assert_close(model.predict(x)[0], model(x).detach())


def test_without_a_posterior_any_number_of_outputs_has_a_prediction() -> None:
    model = made(nn.Sequential(nn.Linear(4, 300)), target_modules=["0"], posterior="none").eval()
    mean, std = model.predict(X)
    assert mean.shape == (6, 300) and not std.any()


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_without_adapters_a_prediction_is_certain(posterior: str) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    expected = net(X).detach()
    model = made(net, posterior=posterior).eval()
    with model.disable_adapter():
        mean, std = model.predict(X)
    torch.testing.assert_close(mean, expected)
    assert not std.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_variance_in_half_precision_counts_every_layer(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    _, expected = made(copy.deepcopy(net), posterior="constant").eval().predict(X)
    _, std = made(net.to(dtype), posterior="constant").eval().predict(X.to(dtype))
    torch.testing.assert_close(std.float(), expected, rtol=0.05, atol=0)


def test_predictions_in_inference_mode() -> None:
    model = made().eval()
    expected = model.predict(X)
    with torch.inference_mode():
        found = model.predict(X + 0)  # made here, so that torch does not count its changes
    torch.testing.assert_close(found, expected)


def test_the_divergence_does_not_overflow_in_half_precision() -> None:
    net = nn.Sequential(nn.Linear(16, 11008), nn.ReLU(), nn.Linear(11008, 1))
    model = get_balora_model(net, BaLoRAConfig(r=8))
    with torch.autocast("cpu", dtype=torch.float16):
        model(torch.randn(8, 16))
        found = model.kl_loss(1000)
    torch.testing.assert_close(found, model.kl_loss(1000))
    assert found.isfinite()


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_reference_pass_without_adapters_leaves_the_training_pass_alone(posterior: str) -> None:
    def gradients(reference: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = made(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), posterior=posterior)
        torch.manual_seed(1)
        out = model(X)
        if reference:
            with torch.no_grad(), model.disable_adapter():
                model(X)
        (out.square().mean() + model.kl_loss(10)).backward()
        return [p.grad for p in model.parameters() if p.grad is not None] + [model.n_seen.double()]

    torch.testing.assert_close(gradients(reference=True), gradients(reference=False))


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_that_is_cast_samples_in_its_precision(posterior: str, dtype: torch.dtype) -> None:
    model = made(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), posterior=posterior).to(dtype)
    assert model(X.to(dtype)).dtype == dtype
    assert model.sample(X.to(dtype), 2).isfinite().all()


def test_the_wrapped_model_is_not_pushed_to_a_hub() -> None:
    net = Net()
    net.push_to_hub = lambda: None  # type: ignore[assignment]
    with pytest.raises(AttributeError, match="call save_pretrained, then upload"):
        made(net).push_to_hub()


def test_threads_do_not_see_the_marks_of_each_others_passes() -> None:
    model = made().eval()
    mean, own = model(X), [model.predict(x[None])[1] for x in X]

    def ask(i: int) -> bool:
        if i % 3 == 0:
            return torch.allclose(model(X), mean)
        return torch.allclose(model.predict(X[i % 6][None])[1], own[i % 6])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(120)))


def test_a_model_that_squeezes_its_output_predicts_a_batch_of_one() -> None:
    class Squeezed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, 0].squeeze()

    for posterior in ("constant", "none"):
        model = made(Squeezed(), posterior=posterior).eval()
        for found, one in zip(model.predict(X[:1]), model.predict(X), strict=True):
            torch.testing.assert_close(found, one[:1])


def test_no_inputs_are_no_error() -> None:
    model = made(posterior="constant").eval()
    assert [part.shape for part in model.predict(X[:0])] == [(0, 2), (0, 2)]
    assert [part.shape for part in model.predict_proba(X[:0])] == [(0, 2), (0, 2)]
    model = made(nn.Sequential(nn.Linear(4, 2)), posterior="network").train()
    model(X[:0])
    assert model.kl_loss(10) == 0


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        made().eval().sample(X, 0)


def test_a_model_may_read_what_an_adapted_layer_has() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.named, self.last = nn.Embedding(5, 4), nn.Linear(4, 1)

        def forward(self, index: Tensor) -> Tensor:
            scaled = self.named(index) * self.named.embedding_dim**0.5
            y: Tensor = self.last(scaled)
            return y

    model = made(Scaled(), target_modules=["named"], posterior="constant").eval()
    assert copy.deepcopy(model).predict(torch.arange(3))[0].shape == (3, 1)
    with pytest.raises(AttributeError, match="no_such"):
        model.layers["named"].no_such  # noqa: B018


def test_an_open_sample_is_that_of_a_forward_in_any_mode() -> None:
    model = made()
    model(X)  # leaves noise of its own
    alpha = torch.full((6, len(model.layers)), 0.3)
    mean = model.eval()(X)
    with model.sampling(alpha, generator=torch.Generator().manual_seed(1)):
        sample = model(X)
    assert not torch.allclose(sample, mean)
    model.model.norm.eval()
    with evaluation_mode(model.model):
        model.training = True
        with model.sampling(0 * alpha):
            torch.testing.assert_close(model(X), mean)
    with model.sampling(alpha, generator=torch.Generator().manual_seed(1)):
        model.eval()
        torch.testing.assert_close(model(X), sample)
    torch.testing.assert_close(model(X), mean)
    with model.train().sampling(alpha):
        model(X)
        with pytest.raises(RuntimeError, match="outside sampling"):
            model.kl_loss(10)


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_a_batch_of_nothing_has_no_outputs(posterior: str) -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(4, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor, rows: Tensor) -> Tensor:
            n = int(rows.max()) + 1 if len(rows) else 0
            y: Tensor = self.head(torch.zeros(n, 8).index_add(0, rows, self.first(x).tanh()))
            return y

    config = BaLoRAConfig.from_dict({"target_modules": ["first"], "posterior": posterior, "n_train": 9})
    model = get_balora_model(Ragged(), config, rows=lambda x, rows: rows)
    rows = torch.tensor([0, 0, 1, 2, 2, 2])
    assert model.eval().predict((X, rows))[1].shape == (3, 1)
    mean = model.sample((X[:0], rows[:0]), 2)
    assert mean.shape == (2, 0, 1)
