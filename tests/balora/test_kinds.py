"""Each kind of adapted layer: the mean is LoRA's, the noise has the posterior's variance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mofgap.balora import (
    AdaptedLayer,
    BaLoRAConfig,
    adapt,
    get_balora_model,
    lower_rank,
    merge,
    sampling,
    sensitivity,
)
from mofgap.balora.config import Posterior
from mofgap.balora.kinds import reason_against

Make = Callable[[], tuple[nn.Module, Tensor]]


def linear() -> tuple[nn.Module, Tensor]:
    return nn.Linear(5, 3), torch.randn(4, 6, 5)


def conv1d() -> tuple[nn.Module, Tensor]:
    return Conv1D(3, 5), torch.randn(4, 6, 5)


def conv(kernel: int, **settings: object) -> Make:
    def make() -> tuple[nn.Module, Tensor]:
        return nn.Conv2d(2, 3, kernel, **settings), torch.randn(4, 2, 6, 5)  # type: ignore[arg-type]

    return make


def embedding() -> tuple[nn.Module, Tensor]:
    return nn.Embedding(7, 3), torch.randint(0, 7, (4, 6))


KINDS = {
    "linear": linear,
    "Conv1D": conv1d,
    "1x1": conv(1),
    "3x3": conv(3, padding=1),
    "stride": conv(3, stride=2, padding=(0, 1), bias=False),
    "same": conv(4, padding="same"),
    "embedding": embedding,
}


@pytest.fixture(params=KINDS, name="case")
def _case(request: pytest.FixtureRequest) -> tuple[nn.Sequential, AdaptedLayer, Tensor]:
    torch.manual_seed(0)
    base, x = KINDS[request.param]()
    net = nn.Sequential(base.double())
    (layer,) = adapt(net, BaLoRAConfig(target_modules=("0",), r=2)).values()
    nn.init.normal_(layer.lora_B)
    return net, layer, x.double() if x.is_floating_point() else x


def test_the_mean_is_that_of_the_merged_weight(case: tuple[nn.Sequential, AdaptedLayer, Tensor]) -> None:
    net, layer, x = case
    mean, base = net(x), layer.base(x)
    assert (mean - base).abs().max() > 0.1
    layer.fold()
    torch.testing.assert_close(net(x), mean)
    merge(net)
    torch.testing.assert_close(net(x), mean)


def test_a_lower_rank_leaves_the_mean_as_it_is(case: tuple[nn.Sequential, AdaptedLayer, Tensor]) -> None:
    net, layer, x = case
    mean, update = net(x), (layer.lora_B @ layer.lora_A).detach()
    (kept,) = lower_rank({"0": layer}, 1).values()
    assert layer.rank == 1
    torch.testing.assert_close(net(x), mean)
    left = (update - layer.lora_B @ layer.lora_A).norm().item()
    assert left == pytest.approx((1 - kept) ** 0.5 * update.norm().item())
    assert left == pytest.approx(torch.linalg.svdvals(update)[1].item())


@pytest.mark.parametrize("rank", [0, 3])
def test_a_rank_is_at_most_that_of_the_layer(rank: int) -> None:
    layers = adapt(nn.Sequential(nn.Linear(5, 3)), BaLoRAConfig(target_modules=("0",), r=2))
    with pytest.raises(ValueError, match=f"rank 2.*not {rank}"):
        lower_rank(layers, rank)


def test_trained_deviations_are_not_cut() -> None:
    layers = adapt(nn.Sequential(nn.Linear(5, 3)), BaLoRAConfig(target_modules=("0",), r=2))
    layers["0"].learn_spread(0.1)
    with pytest.raises(ValueError, match="standard deviation"):
        lower_rank(layers, 1)


@pytest.mark.parametrize(("kind", "flipout"), [("weights", True), ("weights", False), ("rows", True)])
def test_noise_has_the_variance_of_the_posterior(
    case: tuple[nn.Sequential, AdaptedLayer, Tensor], kind: str, flipout: bool
) -> None:
    """By brute force: the output is linear in A, so one derivative by each of its elements is exact."""
    net, layer, x = case
    alpha = torch.tensor([[0.1], [0.4], [0.2], [0.0]], dtype=torch.float64)
    A = layer.lora_A.detach().clone()

    def output(weight: Tensor) -> Tensor:
        return torch.func.functional_call(net, {"0.lora_A": weight}, (x,))

    jacobian = torch.func.jacrev(output)(A).flatten(-2)
    shape = (-1, *[1] * (jacobian.ndim - 2))
    expected = alpha.view(shape) * (jacobian * A.flatten()).square().sum(-1)
    generator, n = torch.Generator().manual_seed(1), 3000
    total = torch.zeros_like(expected)
    with torch.no_grad():
        mean = net(x)
        for _ in range(n):
            with sampling({"0": layer}, alpha, kind=kind, generator=generator, flipout=flipout):  # type: ignore[arg-type]
                total += (net(x) - mean).square()
    assert (total[3] < 1e-12).all()
    torch.testing.assert_close((total / n).mean(-1), expected.mean(-1), rtol=0.25, atol=1e-9)


def test_inputs_share_a_draw_without_flipout_only() -> None:
    net = nn.Sequential(nn.Linear(5, 3))
    layers = adapt(net, BaLoRAConfig(target_modules=("0",), r=2))
    nn.init.normal_(layers["0"].lora_B)
    x = torch.randn(1, 5).expand(8, 5)
    for flipout, different in ((True, True), (False, False)):
        with sampling(layers, torch.ones(8, 1), flipout=flipout):
            y = net(x)
        assert bool((y.std(0) > 1e-6).any()) == different


def test_the_closed_form_is_the_sum_over_all_elements(
    case: tuple[nn.Sequential, AdaptedLayer, Tensor],
) -> None:
    net, layer, x = case
    A = layer.lora_A.detach().clone()

    def output(weight: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(net, {"0.lora_A": weight}, (x,))
        return torch.tanh(y).flatten(1).sum(1)

    expected = (torch.func.jacrev(output)(A) * A).square().sum((1, 2))
    found = sensitivity(lambda: torch.tanh(net(x)).flatten(1).sum(1), {"0": layer}, 4)
    torch.testing.assert_close(found.output, output(A))
    torch.testing.assert_close(found.per_layer[:, 0], expected)


def test_an_embedding_called_twice_adds_up_and_shares_out() -> None:
    net = nn.Embedding(7, 3).double()
    holder = nn.ModuleDict({"e": net})
    layers = adapt(holder, BaLoRAConfig(target_modules=("e",), r=2))
    layer = layers["e"]
    nn.init.normal_(layer.lora_B)
    x, row_to_input = torch.tensor([1, 1, 3, 3, 6]), torch.tensor([0, 0, 0, 1, 1])

    def forward() -> Tensor:
        y: Tensor = torch.tanh(layer(x) * layer(x.flip(0).flip(0))).sum(1)
        return y.new_zeros(2).index_add(0, row_to_input, y)

    found = sensitivity(forward, layers, 2, row_to_input, per_row=True)
    assert found.per_row is not None
    sums = found.per_row.new_zeros(2, 1).index_add(0, row_to_input, found.per_row)
    torch.testing.assert_close(sums, found.per_layer)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(4, 4, 3, groups=2), "groups=2"),
        (nn.Conv2d(4, 4, 3, dilation=2), r"dilation=\(2, 2\)"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "padding_mode='circular'"),
        (nn.Embedding(4, 4, max_norm=1.0), "max_norm"),
    ],
)
def test_what_peft_cannot_hold_is_refused(layer: nn.Module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapt(nn.Sequential(layer), BaLoRAConfig(target_modules=("0",)))


@pytest.mark.parametrize("posterior", ["network", "diagonal"])
def test_the_vector_of_padding_stays_as_it_is(posterior: Posterior) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(7, 4, padding_idx=0), nn.Flatten(), nn.Linear(12, 2))
    model = get_balora_model(net, BaLoRAConfig(r=2, target_modules=["0"], posterior=posterior))
    layer = model.layers["0"]
    nn.init.normal_(layer.lora_B)
    x = torch.zeros(5, 3, dtype=torch.int64)
    assert not layer(x).any()
    _, std = model.predict(x)
    assert not std.any() and not model.sample(x, 3).std(0).any()
    model(x + torch.arange(5)[:, None]).square().sum().backward()
    assert layer.lora_A.grad is not None and layer.lora_A.grad.any() and not layer.lora_A.grad[:, 0].any()
    assert not model.merge_and_unload()[0].weight[0].any()


def test_an_embedding_takes_any_integers_and_leaves_padding_alone() -> None:
    torch.manual_seed(0)
    model = get_balora_model(
        nn.Sequential(nn.Embedding(7, 4, padding_idx=2), nn.Flatten(), nn.Linear(12, 1)),
        BaLoRAConfig(target_modules=("0",), r=2, n_features=12),
    )
    layer = model.layers["0"]
    nn.init.normal_(layer.lora_A)  # as an adapter of PEFT may have it
    nn.init.normal_(layer.lora_B)
    x = torch.tensor([[0, 2, 5], [2, 2, 6]])
    assert model(x.int()).isfinite().all()
    model.eval()
    mean, std = model.predict(x.int())
    torch.testing.assert_close(mean, model(x))
    assert (std > 0).all()
    torch.testing.assert_close(model.merge_and_unload()(x), mean)


def test_a_convolution_that_computes_something_else_is_refused() -> None:
    class Standardised(nn.Conv2d):
        def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return super()._conv_forward(input, 2 * weight, bias)

    assert reason_against(nn.Conv2d(3, 4, 3)) == ""
    assert "differs from its class's" in reason_against(Standardised(3, 4, 3))
