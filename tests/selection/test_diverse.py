from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.selection.diverse import choose

seeds = st.integers(0, 2**32 - 1)


def items(seed: int, n: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(0.1, 1, n), rng.normal(size=(n, 2))


@given(seeds)
@settings(max_examples=25)
def test_gains_are_those_of_the_determinant(seed: int) -> None:
    quality, points = items(seed)
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    kernel = quality[:, None] * np.exp(-(distance**2) / 2) * quality
    chosen: list[int] = []
    for pick in choose(quality, points, 1.0, 4):
        before = np.linalg.det(kernel[np.ix_(chosen, chosen)]) if chosen else 1.0
        ratios = [
            np.linalg.det(kernel[np.ix_([*chosen, i], [*chosen, i])]) / before if i not in chosen else 0
            for i in range(len(quality))
        ]
        assert pick.gain**2 == pytest.approx(max(ratios), rel=1e-5)
        assert pick.gain == pytest.approx(quality[pick.index] * pick.distinct)
        chosen.append(pick.index)


@given(seeds)
@settings(max_examples=25)
def test_gains_fall_and_nothing_is_chosen_twice(seed: int) -> None:
    picks = choose(*items(seed), 0.7, 12)
    gains = [pick.gain for pick in picks]
    assert gains == sorted(gains, reverse=True) and len({p.index for p in picks}) == len(picks)
    assert picks[0].distinct == 1


def test_of_copies_one_is_taken() -> None:
    points = np.array([[0.0, 0]] * 10 + [[5.0, 0], [0, 5.0]])
    picks = choose(np.array([0.9] * 10 + [0.2, 0.1]), points, 1.0, 12)
    assert [pick.index for pick in picks] == [0, 10, 11]


def test_near_copies_wait_for_worse_but_different_ones() -> None:
    points = np.array([[0.0, 0], [0.05, 0], [9.0, 9]])
    assert [p.index for p in choose(np.array([0.9, 0.8, 0.3]), points, 1.0, 2)] == [0, 2]


def test_far_apart_items_come_in_order_of_quality_and_ties_in_their_own() -> None:
    points = 100 * np.arange(5)[:, None]
    picks = choose(np.array([0.2, 0.9, 0.5, 0.9, 0.0]), points, 1.0, 5)
    assert [pick.index for pick in picks] == [1, 3, 2, 0]


def test_items_of_however_little_worth_are_still_ranked() -> None:
    picks = choose(np.array([0.0, 1e-14, 3e-12, 2e-12]), 100 * np.arange(4)[:, None], 1.0, 4)
    assert [pick.index for pick in picks] == [2, 3, 1]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="fit together"):
        choose(np.ones(3), np.ones((2, 2)), 1.0, 2)
    with pytest.raises(ValueError, match="at least 0"):
        choose(np.array([-1.0]), np.ones((1, 2)), 1.0, 2)
    with pytest.raises(ValueError, match="positive"):
        choose(np.ones(1), np.ones((1, 2)), 0.0, 2)
