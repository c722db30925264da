from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mofgap.encoders import attention
from mofgap.encoders.attention import neighbour_attention, reference_attention

N_ATOMS, K, N_HEADS, WIDTH = 11, 7, 4, 24


def make_inputs(bond_gradient: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    query, key, value = (torch.randn(N_ATOMS, WIDTH, generator=generator) for _ in range(3))
    bond = torch.randn(N_ATOMS, K, N_HEADS + WIDTH, generator=generator)
    gate_bias = 1 + torch.randn(WIDTH, generator=generator)
    neighbour = torch.randint(0, N_ATOMS, (N_ATOMS, K), generator=generator)
    weight = torch.rand(N_ATOMS, K, generator=generator)
    weight[2, 4:] = 0
    weight[5] = 0
    for tensor in (query, key, value):
        tensor.requires_grad_()
    shape = [bond.requires_grad_(bond_gradient), gate_bias.requires_grad_(bond_gradient)]
    return [query, key, value, *shape, neighbour, weight]


@pytest.mark.parametrize("bond_gradient", [True, False])
def test_the_compiled_loops_agree_with_torch(bond_gradient: bool) -> None:
    inputs = make_inputs(bond_gradient)
    mine, theirs = neighbour_attention(*inputs), reference_attention(*inputs)
    torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-5)
    trained = [t for t in inputs if t.requires_grad]
    assert len(trained) == (5 if bond_gradient else 3)
    given = torch.randn(N_ATOMS, WIDTH, generator=torch.Generator().manual_seed(4))
    ours = torch.autograd.grad(mine, trained, given)
    for gradient, expected in zip(ours, torch.autograd.grad(theirs, trained, given), strict=True):
        torch.testing.assert_close(gradient, expected, atol=5e-6, rtol=1e-4)
        assert expected.abs().max() > 0.1


def test_threads_share_the_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(bond_gradient=True)
    given = torch.randn(N_ATOMS, WIDTH, generator=torch.Generator().manual_seed(4))

    def found() -> list[Tensor]:
        out = neighbour_attention(*inputs)
        return [out, *torch.autograd.grad(out, inputs[:5], given)]

    alone = found()
    monkeypatch.setattr(attention, "MIN_ATOMS", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    together = found()
    assert torch.equal(together[0], alone[0])
    for mine, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(mine, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("n_heads", [1, 3, 8, 24])
def test_sums_over_channels_hold_for_any_number_of_heads(n_heads: int) -> None:
    """One channel a head, an odd number, and multiples of four take different loops."""
    inputs = make_inputs(bond_gradient=False)
    inputs[3] = torch.randn(N_ATOMS, K, n_heads + WIDTH, generator=torch.Generator().manual_seed(5))
    mine, theirs = neighbour_attention(*inputs), reference_attention(*inputs)
    torch.testing.assert_close(mine, theirs, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", [neighbour_attention, reference_attention])
def test_an_atom_without_neighbours_receives_nothing(attention: object) -> None:
    assert callable(attention)
    inputs = make_inputs(bond_gradient=True)
    out = attention(*inputs)
    assert torch.equal(out[5], torch.zeros(WIDTH))
    gradients = torch.autograd.grad(out.square().sum(), inputs[:5])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert torch.equal(gradients[0][5], torch.zeros(WIDTH))


def test_a_neighbour_of_no_weight_may_be_any_atom() -> None:
    inputs = make_inputs(bond_gradient=False)
    before = neighbour_attention(*inputs)
    inputs[5][2, 4:] = 9
    torch.testing.assert_close(neighbour_attention(*inputs), before, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("attention", [neighbour_attention, reference_attention])
def test_a_neighbour_of_little_or_no_weight_may_have_the_largest_logit(attention: object) -> None:
    """What is passed on stays a mean, and gradients are those of the same sum in float64."""
    assert callable(attention)
    inputs = make_inputs(bond_gradient=True)
    inputs[6][1, 0] = 1e-9
    with torch.no_grad():
        inputs[3][1:3, :, :N_HEADS] += 22 * (inputs[6][1:3] < 1e-6)[..., None]
    given = torch.randn(N_ATOMS, WIDTH, generator=torch.Generator().manual_seed(4))
    out = attention(*inputs)
    found = [out, *torch.autograd.grad(out, inputs[:5], given)]
    exact = [t.detach().double().requires_grad_() for t in inputs[:5]]
    out = reference_attention(*exact, inputs[5], inputs[6].double())
    expected = [out, *torch.autograd.grad(out, exact, given.double())]
    for mine, true in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), true, atol=2e-5, rtol=1e-4)
    constant = [*inputs[:2], torch.ones(N_ATOMS, WIDTH), *inputs[3:]]
    constant[3] = torch.cat([inputs[3][..., :N_HEADS], torch.zeros(N_ATOMS, K, WIDTH)], dim=2)
    constant[4] = torch.zeros(WIDTH)
    torch.testing.assert_close(attention(*constant)[:3], torch.ones(3, WIDTH))


@pytest.mark.parametrize("attention", [neighbour_attention, reference_attention])
def test_the_last_neighbour_leaves_smoothly(attention: object) -> None:
    assert callable(attention)
    inputs = make_inputs(bond_gradient=False)
    inputs[6][4] = 0
    out = []
    for weight in (1e-6, 5e-7, 0.0):
        inputs[6][4, 3] = weight
        out.append(attention(*inputs)[4])
    torch.testing.assert_close(out[1], out[0] / 2)
    assert out[0].abs().max() > 0.1 and torch.equal(out[2], torch.zeros(WIDTH))


def test_half_precision_inputs_are_computed_in_float32() -> None:
    query, key, value, bond, gate_bias, *tables = (t.detach() for t in make_inputs(bond_gradient=False))
    halves = [t.bfloat16() for t in (query, key, value, bond, gate_bias)]
    out = neighbour_attention(*halves, *tables)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, reference_attention(*(t.float() for t in halves), *tables))


def test_second_derivatives_are_refused_on_the_cpu() -> None:
    """The loops compute none: they would be lost in silence."""
    query, *others = make_inputs(bond_gradient=False)
    (gradient,) = torch.autograd.grad(
        (query + neighbour_attention(query, *others)).square().sum(), query, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
