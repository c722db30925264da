import numpy as np
import pytest

from mofgap.uncertainty.groups import group_of, quantile_edges


def test_an_edge_belongs_to_the_group_below_and_the_unknown_to_the_last():
    assert group_of(np.array([0.1, 0.5, 0.6, np.nan]), [0.5, 0.8]).tolist() == [0, 0, 1, 2]


def test_edges_deal_equal_groups_of_enough_rows():
    novelty = np.random.default_rng(0).random(1000)
    edges = quantile_edges(novelty, 5, 200)
    assert edges == pytest.approx(np.quantile(novelty, [0.2, 0.4, 0.6, 0.8], method="lower"))
    assert len(quantile_edges(novelty, 5, 250)) == 3
    assert quantile_edges(novelty, 5, 501) == ()
    # A third of the rows on one value: no edge may cut an empty group off.
    tied = np.where(novelty < 0.35, 1.0, novelty)
    edges = quantile_edges(tied, 5, 150)
    counts = np.bincount(np.searchsorted(edges, tied), minlength=len(edges) + 1)
    assert len(edges) >= 2 and counts.min() >= 150
    # Most rows are as novel as can be: they are a group, and the others are.
    mostly = np.where(novelty < 0.6, 1.0, novelty)
    (edge,) = quantile_edges(mostly, 5, 250)
    assert edge == mostly[mostly < 1].max()
    assert quantile_edges(np.ones(1000), 5, 200) == ()
