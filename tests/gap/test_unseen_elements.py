from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pytest

from mofgap.gap.unseen_elements import factor, widening
from mofgap.uncertainty.novelty import Novelty

HAFNIUM, OSMIUM, ZINC = 72, 76, 30
SUBSTITUTES: Mapping[str, Collection[str]] = {"Hf": ("Zr", "V"), "Os": ("Rh",)}


def far(*rare: dict[int, int]) -> Novelty:
    ones = np.ones(len(rare))
    return Novelty(ones, ones, ((),) * len(rare), ones == 0, rare)


def test_nothing_is_wider_without_unseen_elements() -> None:
    np.testing.assert_array_equal(widening(far({}, {ZINC: 3}), SUBSTITUTES), 1.0)


def test_the_less_similar_an_element_the_wider() -> None:
    similar, other = widening(far({HAFNIUM: 0}, {OSMIUM: 0}), SUBSTITUTES)
    assert 1.02 < similar < 1.1 and 1.8 < other < 2.1


def test_the_most_similar_of_those_that_it_is_read_as_counts() -> None:
    assert factor("Hf", ("V", "Zr")) == factor("Hf", ("Zr",)) < factor("Hf", ("V",))


def test_of_several_elements_the_least_similar_counts() -> None:
    both, other = widening(far({HAFNIUM: 0, ZINC: 4, OSMIUM: 0}, {OSMIUM: 0}), SUBSTITUTES)
    assert both == other


def test_an_element_that_is_read_as_no_other_is_usual() -> None:
    assert widening(far({HAFNIUM: 0}), {}) == [pytest.approx(1.25)]
