from __future__ import annotations

import numpy as np
from pymatgen.core import Composition

from mofgap.study.methods.boosting import (
    MAX_Z,
    PROPERTIES,
    STATISTICS,
    CompositionModel,
    composition_features,
    element_table,
)


def test_features_do_not_depend_on_the_order_of_atoms_or_the_size_of_the_cell() -> None:
    once, turned, twice = composition_features([[30, 8, 8, 1], [8, 1, 30, 8], [30, 8, 8, 1] * 2])
    assert np.array_equal(once, turned)
    np.testing.assert_allclose(once, twice)


def test_statistics_are_those_of_the_composition() -> None:
    (found,) = composition_features([[30, 8, 8, 1]])
    statistics = found[: len(PROPERTIES) * len(STATISTICS)].reshape(len(STATISTICS), len(PROPERTIES))
    column = PROPERTIES.index("X")
    x = {"Zn": 1.65, "O": 3.44, "H": 2.20}
    mean = sum(Composition("ZnO2H").get_atomic_fraction(e) * v for e, v in x.items())
    assert np.isclose(statistics[0, column], mean)
    assert np.isclose(statistics[2, column], 1.65)
    assert np.isclose(statistics[3, column], 3.44)
    assert np.isclose(statistics[4, column], 3.44 - 1.65)
    assert np.isclose(statistics[5, column], 3.44)
    assert np.isclose(found[len(PROPERTIES) * len(STATISTICS) + 8 - 1], 0.5)


def test_the_table_knows_the_elements_of_frameworks() -> None:
    table = element_table()
    assert table.shape == (MAX_Z + 1, len(PROPERTIES))
    assert np.isfinite(table[[6, 8, 29, 30, 40]][:, PROPERTIES.index("ionization_energy")]).all()


def test_boosting_learns_what_composition_says_and_how_far_it_scatters() -> None:
    rng = np.random.default_rng(0)
    numbers = [rng.choice([1, 6, 8, 30], 12) for _ in range(600)]
    x = composition_features(numbers)
    oxygen = np.array([(n == 8).mean() for n in numbers])
    gap = 4 * oxygen + rng.normal(0, 0.05 + 0.5 * (oxygen > 0.3), len(numbers))
    gap_ev, std_ev = CompositionModel.fit(x[:450], gap[:450], 0).predict(x[450:])
    assert np.abs(gap_ev - gap[450:]).mean() < 0.6 * np.abs(gap[450:] - gap[:450].mean()).mean()
    many, few = std_ev[oxygen[450:] > 0.4].mean(), std_ev[oxygen[450:] < 0.2].mean()
    assert many > 2 * few
    assert 0.8 < np.sqrt(np.mean(((gap_ev - gap[450:]) / std_ev) ** 2)) < 1.5
