from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from mofgap.balora import AdaptedLinear, sampling, without_adapters
from mofgap.choices import Noise

ROWS = torch.tensor([0, 0, 1, 2, 2, 2])
KINDS: list[Noise] = ["weights", "rows"]


def one_layer(d_in: int = 4, rank: int = 2) -> dict[str, AdaptedLinear]:
    """A layer whose output is h itself: W0 = 0, B = 1, scale 1."""
    base = nn.Linear(d_in, rank, bias=False).double()
    nn.init.zeros_(base.weight)
    layer = AdaptedLinear(base, rank=rank, lora_alpha=rank)
    nn.init.eye_(layer.lora_B)
    return {"layer": layer}


def draw(layers: dict[str, AdaptedLinear], x: Tensor, alpha: Tensor, kind: Noise, n_samples: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    samples = []
    with torch.no_grad():
        for _ in range(n_samples):
            with sampling(layers, alpha, ROWS, kind=kind, generator=generator):
                samples.append(layers["layer"](x).flatten())
    return torch.stack(samples)


def brute_force(layer: AdaptedLinear, x: Tensor, alpha: Tensor, kind: Noise, n_samples: int) -> Tensor:
    """Sample every element of A by itself, once for each input or once for each row."""
    A = layer.lora_A.detach()
    shared = torch.randn(n_samples, len(ROWS) if kind == "rows" else len(alpha), *A.shape, dtype=A.dtype)
    eps = shared if kind == "rows" else shared[:, ROWS]
    weights = A + alpha[ROWS].sqrt()[..., None] * A * eps
    return torch.einsum("snrd,nd->snr", weights, x).flatten(1)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_match_element_wise_sampling(kind: Noise) -> None:
    layers, n_samples = one_layer(), 6000
    layer = layers["layer"]
    x = torch.randn(len(ROWS), 4, dtype=torch.float64)
    alpha = torch.tensor([[0.5], [0.1], [1.0]], dtype=torch.float64)
    ours = draw(layers, x, alpha, kind, n_samples)
    theirs = brute_force(layer, x, alpha, kind, 40_000)
    # Cov(h_mi, h_ni) = alpha_X sum_j A_ij² x_mj x_nj for rows m, n that share their weights, else 0.
    same = torch.eye(len(ROWS)) if kind == "rows" else (ROWS[:, None] == ROWS[None]).double()
    exact = torch.einsum("mn,id,md,nd->mni", same * alpha[ROWS], layer.lora_A.detach().square(), x, x)
    exact_full = torch.einsum("mni,ij->minj", exact, torch.eye(2, dtype=torch.float64)).reshape(12, 12)
    scale = exact_full.diagonal().sqrt()
    for samples, tolerance in ((ours, 0.06), (theirs, 0.03)):
        correlation = samples.T.cov() / scale / scale[:, None]
        torch.testing.assert_close(
            correlation, exact_full / scale / scale[:, None], atol=tolerance, rtol=tolerance
        )
    mean = (x @ layer.lora_A.detach().T).flatten()
    assert ((ours.mean(0) - mean).abs() / scale).max() < 5 / n_samples**0.5
    kurtosis = (((ours - mean) / scale) ** 4).mean(0)
    torch.testing.assert_close(kurtosis, torch.full_like(kurtosis, 3.0), atol=0.35, rtol=0)


def test_rows_of_inputs_with_seeds_of_their_own_have_the_same_variance() -> None:
    layers, n = one_layer(), 3000
    A, x = layers["layer"].lora_A.detach(), torch.randn(1, 4, dtype=torch.float64)
    alpha = torch.full((n, 1), 0.5, dtype=torch.float64)
    with torch.no_grad(), sampling(layers, alpha, torch.arange(n), kind="rows", input_seeds=range(n)):
        drawn = layers["layer"](x.expand(n, 4))
    std = (0.5 * (A.square() * x.square()).sum(1)).sqrt()
    z = (drawn - x @ A.T) / std
    assert z.mean(0).abs().max() < 5 / n**0.5
    torch.testing.assert_close(z.square().mean(0), torch.ones_like(std), atol=0.15, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train", [True, False])
def test_active_inside_the_context_only(make_set_model: Callable[..., Any], kind: Noise, train: bool) -> None:
    model, layers = make_set_model()
    model.train(train)
    x = torch.randn(6, 5, dtype=torch.float64)
    mean = model(x, ROWS, 3)
    with pytest.raises(KeyError), sampling(layers, torch.ones(3, 3, dtype=torch.float64), ROWS, kind=kind):
        assert (model(x, ROWS, 3) - mean).abs().min() > 1e-6
        raise KeyError
    assert torch.equal(model(x, ROWS, 3), mean)


@settings(max_examples=15)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**31), n_inputs=st.integers(1, 4))
def test_reproducible_from_the_generator_alone(kind: Noise, seed: int, n_inputs: int) -> None:
    layers = one_layer()
    x = torch.randn(n_inputs, 3, 4, dtype=torch.float64)
    alpha = torch.rand(n_inputs, 1, dtype=torch.float64)
    draws = []
    for noise_elsewhere in range(2):
        torch.manual_seed(noise_elsewhere)
        generator = torch.Generator().manual_seed(seed)
        with sampling(layers, alpha, kind=kind, generator=generator):
            draws.append(layers["layer"](x))
    assert torch.equal(draws[0], draws[1])


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_does_not_feel_its_batch_mates(make_set_model: Callable[..., Any], kind: Noise) -> None:
    model, layers = make_set_model()
    x = torch.randn(6, 5, dtype=torch.float64)
    alpha = torch.rand(3, 3, dtype=torch.float64)
    seeds = [11, 12, 13]

    def sample(inputs: list[int]) -> Tensor:
        keep = torch.isin(ROWS, torch.tensor(inputs))
        rows = ROWS[keep] - inputs[0]
        generator = torch.Generator().manual_seed(5)
        own = [seeds[i] for i in inputs]
        with sampling(layers, alpha[inputs], rows, kind=kind, generator=generator, input_seeds=own):
            out: Tensor = model(x[keep], rows, len(inputs))
        return out

    together = sample([0, 1, 2])
    torch.testing.assert_close(torch.cat([sample([i]) for i in range(3)]), together)
    torch.testing.assert_close(sample([1, 2]), together[1:])
    with torch.no_grad():
        assert (together - model(x, ROWS, 3)).abs().min() > 1e-4


def test_one_context_is_one_draw_of_the_weights(make_set_model: Callable[..., Any]) -> None:
    model, layers = make_set_model()
    x = torch.randn(6, 5, dtype=torch.float64)
    alpha = torch.ones(3, 3, dtype=torch.float64)
    with sampling(layers, alpha, ROWS):
        first = model(x, ROWS, 3)
        assert torch.equal(first, model(x, ROWS, 3))
    with sampling(layers, alpha, ROWS):
        assert not torch.allclose(first, model(x, ROWS, 3))
    with sampling(layers, alpha, ROWS, kind="rows"):
        assert not torch.allclose(model(x, ROWS, 3), model(x, ROWS, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_to_alpha_and_both_factors(make_set_model: Callable[..., Any], kind: Noise) -> None:
    model, layers = make_set_model()
    x = torch.randn(6, 5, dtype=torch.float64)
    factors = [p for p in model.parameters() if p.requires_grad]

    def sample(alpha: Tensor, *_: Tensor) -> Tensor:
        with sampling(layers, alpha, ROWS, kind=kind, generator=torch.Generator().manual_seed(3)):
            out: Tensor = model(x, ROWS, 3)
        return out

    alpha = torch.rand(3, 3, dtype=torch.float64).add(0.1).requires_grad_()
    assert len(factors) == 6
    assert torch.autograd.gradcheck(sample, (alpha, *factors))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_stay_finite_at_zero(kind: Noise) -> None:
    layers = one_layer()
    alpha = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    x = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    with sampling(layers, alpha, kind=kind):
        layers["layer"](x).sum().backward()
    for tensor in (alpha, x, layers["layer"].lora_A):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind: Noise) -> None:
    layer = AdaptedLinear(nn.Linear(4, 2), rank=2)
    nn.init.normal_(layer.lora_B)
    x, alpha = torch.randn(3, 4), torch.ones(3, 1)
    draws = []
    for enabled in (False, True):
        generator = torch.Generator().manual_seed(0)
        with (
            torch.autocast("cpu", enabled=enabled),
            sampling({"": layer}, alpha, kind=kind, generator=generator),
        ):
            draws.append(layer(x))
    assert draws[1].dtype == torch.bfloat16
    torch.testing.assert_close(draws[1].float(), draws[0], atol=0.05, rtol=0.05)


def test_without_adapters_is_the_pretrained_model(make_set_model: Callable[..., Any]) -> None:
    model, layers = make_set_model()
    x = torch.randn(6, 5, dtype=torch.float64)
    adapted = model(x, ROWS, 3)
    with without_adapters(layers):
        frozen = model(x, ROWS, 3)
    assert (frozen - adapted).abs().min() > 1e-4
    assert torch.equal(model(x, ROWS, 3), adapted)
    for layer in layers.values():
        nn.init.zeros_(layer.lora_B)
    assert torch.equal(model(x, ROWS, 3), frozen)


@pytest.mark.parametrize(
    ("alpha", "settings_", "message"),
    [
        (torch.ones(2, 3), {}, r"alpha must be \(n_inputs, 1\)"),
        (torch.ones(2, 1), {"kind": "atoms"}, "one of weights, rows"),
        (torch.ones(2, 1), {"input_seeds": [1, 2]}, "need a generator"),
        (torch.ones(2, 1), {"kind": "rows", "input_seeds": [1]}, "1 input_seeds for 2 inputs"),
    ],
)
def test_bad_arguments(alpha: Tensor, settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message), sampling(one_layer(), alpha, **settings_):
        pass


def test_a_leading_dimension_that_counts_nothing_is_refused() -> None:
    layers = one_layer()
    with sampling(layers, torch.ones(2, 1).double()), pytest.raises(ValueError, match="leading dimension"):
        layers["layer"](torch.randn(5, 4, dtype=torch.float64))


def test_rows_must_lie_together() -> None:
    # Three rows of three inputs: after pooling, a tensor of the same length would be taken for the rows.
    layers, rows = one_layer(), torch.tensor([2, 0, 1])
    with pytest.raises(ValueError, match="must be sorted"), sampling(layers, torch.ones(3, 1).double(), rows):
        pass


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="torch 2.6 compiles anew for each sample")
def test_compiles_whole_and_once(make_set_model: Callable[..., Any]) -> None:
    model, layers = make_set_model()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    x = torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(compiled(x, ROWS, 3), model(x, ROWS, 3))
    for kind in KINDS:
        before = counter.frame_count
        for seed in range(3):
            torch.manual_seed(seed)
            with sampling(layers, torch.rand(3, 3, dtype=torch.float64), ROWS, kind=kind):
                out = compiled(x, ROWS, 3)
                if kind == "weights":
                    torch.testing.assert_close(out, model(x, ROWS, 3))
        assert counter.frame_count == before + 1
    torch._dynamo.reset()
