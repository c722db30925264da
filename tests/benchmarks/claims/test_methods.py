from __future__ import annotations

import pytest
import torch

from benchmarks.claims.config import TrainingConfig
from benchmarks.claims.methods import METHODS, Choice, fit

QUICK = TrainingConfig(epochs=2, batch=16, tries=4)
ADAPTED = [name for name in METHODS if name != "full"]


def trained(name, task, backbone, *, constant=0.1, epochs=2):
    method = METHODS[name]
    choice = Choice(rate=1e-2, rank=0 if name == "full" else 2, constant=constant)
    config = TrainingConfig(epochs=epochs, batch=16)
    return method, choice, fit(method, task, backbone, choice, seed=3, config=config)


def test_all_methods_have_as_many_tries() -> None:
    assert {len(method.choices(QUICK)) for method in METHODS.values()} == {4}


def test_every_value_of_beta_is_tried() -> None:
    config = TrainingConfig(tries=6)
    assert {choice.constant for choice in METHODS["balora"].choices(config)} == set(config.betas)


@pytest.mark.parametrize("name", METHODS)
def test_training_learns_and_repeats(name, task, backbone) -> None:
    method, choice, model = trained(name, task, backbone, constant=1e-3, epochs=12)
    logits = method.logits(model, task.test, choice, 8)
    assert (logits.mean(0).argmax(1) == task.test.labels).double().mean() > 0.6
    _, _, again = trained(name, task, backbone, constant=1e-3, epochs=12)
    assert torch.equal(method.logits(again, task.test, choice, 8), logits)


@pytest.mark.parametrize("name", METHODS)
def test_samples_differ_where_a_method_has_noise(name, task, backbone) -> None:
    method, choice, model = trained(name, task, backbone)
    logits = method.logits(model, task.test, choice, 3)
    assert logits.shape == (3 if method.is_sampled else 1, 40, 3)
    assert method.is_sampled == (not torch.equal(logits[0], logits[-1]))
    assert torch.equal(method.logits(model, task.test, choice, 3), logits)  # a seed's samples are the same


@pytest.mark.parametrize("name", ADAPTED)
def test_the_pretrained_weights_stay_but_in_full_fine_tuning(name, task, backbone) -> None:
    _, _, model = trained(name, task, backbone)
    frozen = backbone.network(3, 3).state_dict()
    assert torch.equal(model.layers["second"].base.weight, frozen["second.weight"])
    _, _, whole = trained("full", task, backbone)
    assert not torch.equal(whole.second.weight, frozen["second.weight"])


def test_all_methods_start_from_the_same_head(task, backbone) -> None:
    heads = [
        METHODS[name].network(task, backbone, Choice(1e-3, 2, 0.1), seed=5).state_dict() for name in METHODS
    ]
    values = [next(v for k, v in each.items() if "head" in k and k.endswith("weight")) for each in heads]
    assert all(torch.equal(values[0], each) for each in values)


def test_a_clipped_gradient_is_no_longer_than_asked_for(task, backbone, monkeypatch) -> None:
    norms = []

    def step(self, *_) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    method, choice = METHODS["lora"], Choice(rate=1e-2, rank=2)
    for clip in (None, 1e-3):
        fit(method, task, backbone, choice, seed=3, config=TrainingConfig(epochs=1, batch=16, clip=clip))
    whole, clipped = norms[: len(norms) // 2], norms[len(norms) // 2 :]
    assert min(whole) > 1e-2
    assert max(clipped) < 1.01e-3
