"""Autocast, torch.compile, gradient checkpointing and data-parallel training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mofgap.balora import BaLoRAConfig, BaLoRAModel, get_balora_model

X = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.checkpointed = False

    def block(self, x: Tensor) -> Tensor:
        y: Tensor = torch.tanh(self.second(torch.tanh(self.first(x))))
        return y

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.block, x, use_reentrant=False) if self.checkpointed else self.block(x)
        y: Tensor = self.head(x.mean(1))
        return y


def made(**settings: object) -> BaLoRAModel:
    torch.manual_seed(0)
    model = get_balora_model(
        Net(), BaLoRAConfig.from_dict({"target_modules": "all-linear", "r": 3, **settings})
    )
    for layer in model.layers.values():
        nn.init.normal_(layer.lora_B, std=0.5)
    return model


def step(model: nn.Module, balora: BaLoRAModel) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of one step with a given seed."""
    torch.manual_seed(1)
    loss = model(X).square().mean() + balora.kl_loss(100)
    loss.backward()
    return loss, [p.grad for p in balora.parameters() if p.grad is not None]


@pytest.mark.parametrize("noise", ["weights", "rows"])
def test_gradient_checkpointing_recomputes_the_same_sample(noise: str) -> None:
    plain, again = made(noise=noise), made(noise=noise)
    again.model.checkpointed = True
    torch.testing.assert_close(step(again, again), step(plain, plain))
    torch.testing.assert_close(again.eval().predict(X), plain.eval().predict(X))


def test_autocast_keeps_weights_and_alpha_in_full_precision() -> None:
    model, plain = made(), made()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, gradients = step(model, model)
        mean, std = model.eval().predict(X)
    assert mean.dtype == torch.bfloat16
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
    expected, expected_std = plain.eval().predict(X)
    torch.testing.assert_close(mean.float(), expected, rtol=0.1, atol=0.1)
    torch.testing.assert_close(std.float(), expected_std, rtol=0.2, atol=0.05)


def test_a_compiled_model_samples_anew_and_predicts_the_same() -> None:
    model, plain = made(), made()
    compiled = torch.compile(model, backend="eager")
    torch.testing.assert_close(step(compiled, model), step(plain, plain))
    assert not torch.allclose(compiled(X), compiled(X))
    model.eval()
    torch.testing.assert_close(compiled(X), plain.eval()(X))


@pytest.mark.parametrize("settings", [{}, {"noise": "rows"}, {"posterior": "diagonal"}])
def test_a_compiled_model_takes_batches_of_any_size(settings: dict[str, str]) -> None:
    compiled = torch.compile(made(**settings), backend="eager")
    for n in (6, 4, 5):
        assert compiled(X[:n]).shape == (n, 2)


def test_a_copy_of_a_compiled_model_has_weights_of_its_own(tmp_path: Path) -> None:
    model = made().eval()
    model.compile(backend="eager")
    model(X)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert not twin(X).any() and model(X).any()
    torch.save(model, tmp_path / "model.pt")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_variances_are_not_rounded_under_autocast(dtype: torch.dtype) -> None:
    model = made().eval()
    for layer in model.layers.values():  # so small that their squares have no place in half precision
        layer.lora_B.data *= 1e-3
    expected = model.predict_proba(X)[1]
    with torch.autocast("cpu", dtype=dtype):
        found = model.predict_proba(X)[1]
        covariance = model.covariance(X)[1]
    torch.testing.assert_close(found, expected, rtol=0.15, atol=0)
    assert (torch.linalg.eigvalsh(covariance.double()) >= -1e-12).all()


def test_a_compiled_model_of_least_loss_is_compiled_once() -> None:
    model = made(posterior="analytic", n_train=100)
    graphs = 0

    def count(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    compiled = torch.compile(model, backend=count)
    compiled(X)
    of_the_first = graphs
    for _ in range(3):
        compiled(X)
    assert graphs == of_the_first


def test_an_unfrozen_head_is_trained_under_autocast() -> None:
    model = made(target_modules=["first"])
    model.model.head.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.sample(X, 2)
        loss = model(X).float().square().mean() + model.kl_loss(100)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_data_parallel_training_is_that_of_one_process(tmp_path: Path) -> None:
    model, plain = made(), made()
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        torch.testing.assert_close(step(parallel, model), step(plain, plain))
    finally:
        torch.distributed.destroy_process_group()


def gradients_of_half(rank: int, parallel: bool = False) -> list[Tensor]:
    """Gradients of one step on half of the inputs, with a seed of its own."""
    balora = made()
    model = nn.parallel.DistributedDataParallel(balora) if parallel else balora
    torch.manual_seed(10 + rank)
    (model(X[3 * rank : 3 * rank + 3]).square().mean() + balora.kl_loss(100)).backward()
    return [p.grad for p in balora.parameters() if p.grad is not None]


def in_a_group(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2
    )
    torch.save(gradients_of_half(rank, parallel=True), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_share_the_mean_of_their_gradients(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(in_a_group, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    halves = zip(gradients_of_half(0), gradients_of_half(1), strict=True)
    torch.testing.assert_close(first, [(a + b) / 2 for a, b in halves])
    torch.testing.assert_close(first, second, rtol=0, atol=0)
