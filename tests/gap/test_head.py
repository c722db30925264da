from __future__ import annotations

import torch

from mofgap.crystals.graph import CrystalGraph
from mofgap.gap.head import GapHead, pool


def test_the_pool_holds_mean_and_extremes_of_each_structure() -> None:
    x = torch.tensor([[1.0, -4.0], [3.0, -2.0], [7.0, 5.0]])
    pooled = pool(x, torch.tensor([0, 0, 1]), 2)
    expected = torch.tensor([[2.0, -3.0, 3.0, -2.0, 1.0, -4.0], [7.0, 5.0, 7.0, 5.0, 7.0, 5.0]])
    torch.testing.assert_close(pooled, expected)
    torch.testing.assert_close(pool(x[:2], None, 1), expected[:1])


def test_the_pool_does_not_change_when_a_cell_is_repeated() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pool(x.repeat(3, 1), None, 1), pool(x, None, 1))


def test_gradients_reach_the_extremes_alike_alone_and_in_a_batch() -> None:
    """Atoms that symmetry makes equal share the gradient of an extreme, whichever code computes it."""
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.5, 9.0]])
    weight = torch.arange(1.0, 7.0)
    one = x.clone().requires_grad_()
    (pool(one, None, 1)[0] @ weight).backward()
    two = x.repeat(2, 1).requires_grad_()
    (pool(two, torch.tensor([0, 0, 0, 1, 1, 1]), 2)[1] @ weight).backward()
    assert one.grad is not None
    assert two.grad is not None
    torch.testing.assert_close(two.grad[3:], one.grad)
    assert torch.equal(two.grad[:3], torch.zeros(3, 2))


def test_the_log_spread_is_bounded() -> None:
    torch.manual_seed(0)
    head = GapHead(n_features=6, hidden=4)
    empty = torch.zeros(3, 0)
    batch = CrystalGraph(torch.tensor([0, 2, 3]), torch.ones(3).long(), empty.long(), empty, empty)
    for bias, bound in ((50.0, 2.0), (-50.0, -5.0)):
        torch.nn.init.constant_(head.out.bias, bias)
        mean, log_std = head(torch.randn(3, 2, 3), batch)
        assert mean.shape == log_std.shape == (2,)
        assert (log_std == bound).all()
