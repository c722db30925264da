from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mofgap.balora import AdaptedLinear, BaLoRAConfig, adapt, sampling, sensitivity

ROWS = torch.tensor([0, 0, 1, 2, 2, 2])
EVEN = torch.tensor([0, 0, 1, 1, 2, 2])


def data(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def by_autograd(forward: Callable[[], Tensor], layers: dict[str, AdaptedLinear], n_inputs: int) -> Tensor:
    """sum_ij A_ij² (df/dA_ij)² by one backward pass through the parameters for every input."""
    factors = [layer.lora_A for layer in layers.values()]
    result = torch.zeros(n_inputs, len(layers), dtype=torch.float64)
    for i in range(n_inputs):
        gradients = torch.autograd.grad(forward()[i], factors)
        for j, (A, gradient) in enumerate(zip(factors, gradients, strict=True)):
            result[i, j] = (A.detach() * gradient).square().sum()
    return result


@pytest.mark.parametrize("rows", [ROWS, EVEN])
@pytest.mark.parametrize("middle", [(), (2,)])
def test_equals_autograd_input_by_input(
    make_set_model: Callable[..., Any], rows: Tensor, middle: tuple[int, ...]
) -> None:
    model, layers = make_set_model()
    x = data(6, *middle, 5)

    def forward() -> Tensor:
        out: Tensor = model(x, rows, 3)
        return out

    result = sensitivity(forward, layers, 3, rows, per_row=True)
    torch.testing.assert_close(result.output, forward())
    torch.testing.assert_close(result.per_layer, by_autograd(forward, layers, 3))
    alpha = data(3, 3).square()
    torch.testing.assert_close(result.variance(alpha), (alpha * result.per_layer).sum(1))
    shares = result.variance_per_row(alpha)
    assert shares.shape == (6,)
    torch.testing.assert_close(data(3).zero_().index_add(0, rows, shares), result.variance(alpha))


def test_squared_distance_of_gradient_features_is_the_variance_of_the_difference(
    make_set_model: Callable[..., Any],
) -> None:
    model, layers = make_set_model()
    x, alpha = data(6, 5), data(3, 3).square()

    def forward() -> Tensor:
        out: Tensor = model(x, ROWS, 3)
        return out

    found = sensitivity(forward, layers, 3, ROWS, n_dims=8192)
    assert found.sketches is not None
    torch.testing.assert_close(found.sketches.square().sum(2), found.per_layer)  # nothing is folded
    factors = [layer.lora_A for layer in layers.values()]
    vectors = []
    for i in range(3):
        gradients = torch.autograd.grad(forward()[i], factors)
        noise = [(a.sqrt() * A * g).flatten() for a, A, g in zip(alpha[i], factors, gradients, strict=True)]
        vectors.append(torch.cat(noise).detach())
    expected = torch.cdist(torch.stack(vectors), torch.stack(vectors))
    torch.testing.assert_close(
        torch.cdist(*[found.gradient_features(alpha)] * 2), expected, rtol=0.06, atol=1e-6
    )
    with pytest.raises(ValueError, match="n_dims"):
        sensitivity(forward, layers, 3, ROWS).gradient_features(alpha)


def test_batch_first_and_a_layer_called_twice() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    layers = adapt(net, BaLoRAConfig(target_modules=("0", "2"), r=2))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
    x = data(7, 3, 4)

    def forward() -> Tensor:
        out: Tensor = net(net[:2](x)).mean((1, 2))
        return out

    result = sensitivity(forward, layers, 7)
    torch.testing.assert_close(result.per_layer, by_autograd(forward, layers, 7))


@pytest.mark.parametrize("frugal", [False, True])
def test_what_follows_a_layer_may_work_in_place_or_be_computed_again(frugal: bool) -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    layers = adapt(net, BaLoRAConfig(target_modules=("0", "2", "4"), r=2))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
    x = data(6, 4)
    expected = by_autograd(lambda: net(x)[:, 0], layers, 6)
    net[3] = nn.ReLU(inplace=True)

    def forward() -> Tensor:
        out: Tensor = checkpoint(net, x, use_reentrant=False) if frugal else net(x)
        return out[:, 0]

    torch.testing.assert_close(sensitivity(forward, layers, 6).per_layer, expected)


def test_matches_4096_samples_at_small_noise(make_set_model: Callable[..., Any]) -> None:
    model, layers = make_set_model()
    x, copies = data(6, 5), 64
    # Flipout signs decorrelate copies of the batch, so that one context gives many samples of each input.
    many_x = x.repeat(copies, 1)
    many_rows = (ROWS + 3 * torch.arange(copies)[:, None]).flatten()
    alpha = 1e-4 * (data(3, 3).square() + 0.1)
    generator = torch.Generator().manual_seed(0)
    samples = []
    with torch.no_grad():
        for _ in range(4096 // copies):
            with sampling(layers, alpha.repeat(copies, 1), many_rows, generator=generator):
                samples.append(model(many_x, many_rows, 3 * copies).view(copies, 3))
    expected = sensitivity(lambda: model(x, ROWS, 3), layers, 3, ROWS).variance(alpha)
    spread = torch.cat(samples).var(0)
    torch.testing.assert_close(spread, expected, rtol=0.12, atol=0)  # five standard errors of a variance


def test_rows_that_oppose_each_other_cancel() -> None:
    layer = AdaptedLinear(nn.Linear(2, 1).double(), rank=2)
    nn.init.normal_(layer.lora_B)
    x, rows = torch.cat([row := data(1, 2), row]), torch.tensor([0, 0])
    signs = torch.tensor([[1.0], [-1.0]])
    result = sensitivity(lambda: (signs * layer(x)).sum().view(1), {"": layer}, 1, rows, per_row=True)
    torch.testing.assert_close(result.per_layer, torch.zeros_like(result.per_layer))


def test_no_gradient_of_any_parameter_and_no_trace(make_set_model: Callable[..., Any]) -> None:
    model, layers = make_set_model()
    x = data(6, 5)
    with torch.no_grad():
        result = sensitivity(lambda: model(x, ROWS, 3), layers, 3, ROWS)
    assert not result.output.requires_grad
    assert not result.per_layer.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(layer.recordings is None for layer in layers.values())
    assert not x.requires_grad


def test_works_inside_inference_mode(make_set_model: Callable[..., Any]) -> None:
    model, layers = make_set_model()
    x = data(6, 5)
    expected = sensitivity(lambda: model(x, ROWS, 3), layers, 3, ROWS)
    with torch.inference_mode():
        result = sensitivity(lambda: model(x, ROWS, 3), layers, 3, ROWS)
    assert torch.equal(result.per_layer, expected.per_layer)


def test_the_graph_starts_at_the_first_adapted_layer() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    seen = []
    net[0].register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
    layers = adapt(net, BaLoRAConfig(target_modules=("1",)))
    x = torch.randn(2, 3)
    sensitivity(lambda: net(x).squeeze(-1), layers, 2)
    assert seen == [False]


def test_a_layer_that_is_not_reached_adds_nothing() -> None:
    net = nn.Sequential(nn.Linear(3, 1), nn.Linear(3, 1))
    layers = adapt(net, BaLoRAConfig(target_modules=("0", "1")))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
    x = torch.randn(2, 3)
    with pytest.warns(UserWarning, match="layer 1 was not called"):
        result = sensitivity(lambda: net[0](x).squeeze(-1), layers, 2)
    assert result.per_layer[:, 0].all()
    assert not result.per_layer[:, 1].any()


def test_errors(make_set_model: Callable[..., Any]) -> None:
    model, layers = make_set_model()
    x = data(6, 5)
    with pytest.raises(ValueError, match="per_row needs row_to_input"):
        sensitivity(lambda: x, layers, 3, per_row=True)
    with pytest.raises(ValueError, match=r"\(4,\).*\(4, k\).*\(3,\)"):
        sensitivity(lambda: model(x, ROWS, 3), layers, 4, ROWS)
    with pytest.raises(RuntimeError, match="no adapted layer leads to it"):
        sensitivity(lambda: x.sum(1)[:3], layers, 3, ROWS)
    with pytest.raises(ValueError, match="must be sorted"):
        sensitivity(lambda: model(x, ROWS.flip(0), 3), layers, 3, ROWS.flip(0))
    result = sensitivity(lambda: model(x, ROWS, 3), layers, 3, ROWS)
    with pytest.raises(ValueError, match="per_row=True"):
        result.variance_per_row(torch.ones(3, 3))


def small_net() -> tuple[nn.Sequential, dict[str, AdaptedLinear]]:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))
    layers = adapt(net, BaLoRAConfig(target_modules=("0", "2"), r=2))
    for layer in layers.values():
        nn.init.normal_(layer.lora_B)
    return net, layers


def test_a_compiled_model_has_the_variance_of_all_its_layers() -> None:
    net, layers = small_net()
    x = torch.randn(6, 4)
    expected = sensitivity(lambda: net(x)[:, 0], layers, 6)
    net.compile(backend="aot_eager")
    torch.testing.assert_close(net(x)[:, 0].detach(), expected.output)
    torch.testing.assert_close(sensitivity(lambda: net(x)[:, 0], layers, 6).per_layer, expected.per_layer)


def test_a_layer_without_gradients_is_told() -> None:
    net, layers = small_net()
    x = torch.randn(6, 4)

    def forward() -> Tensor:
        with torch.no_grad():
            h = net[:2](x)
        out: Tensor = net[2](h)[:, 0]
        return out

    with pytest.raises(RuntimeError, match="no_grad"):
        sensitivity(forward, layers, 6)


def test_an_input_that_is_changed_later_is_told() -> None:
    linear = nn.Sequential(nn.Linear(4, 4))
    layers = adapt(linear, BaLoRAConfig(target_modules=("0",), r=2))
    nn.init.normal_(layers["0"].lora_B)

    def forward() -> Tensor:
        x = torch.ones(3, 4)
        y = linear(x)
        x += y.detach()
        out: Tensor = y.sum(1)
        return out

    with pytest.raises(RuntimeError, match="changes the input of 0 in place"):
        sensitivity(forward, layers, 3)


@pytest.mark.parametrize("row_to_input", [None, torch.zeros(0, dtype=torch.long)])
def test_a_batch_of_nothing(row_to_input: Tensor | None) -> None:
    net, layers = small_net()
    found = sensitivity(lambda: net(torch.zeros(0, 4))[:, 0], layers, 0, row_to_input, n_dims=4)
    assert found.output.shape == (0,)
    assert found.per_layer.shape == (0, 2)
    assert found.gradient_features(torch.ones(0, 2)).shape == (0, 4)
