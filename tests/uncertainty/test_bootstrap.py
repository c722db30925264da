import numpy as np
import pytest
from scipy import stats

from mofgap.uncertainty import metrics
from mofgap.uncertainty.bootstrap import Interval, bootstrap, intervals, paired_bootstrap


def methods(n: int = 400):
    rng = np.random.default_rng(3)
    true, shared = rng.normal(size=(2, n))
    return true, true + shared, true + 1.1 * shared + 0.05 * rng.normal(size=n)


def test_an_interval_holds_the_middle_of_the_draws():
    draws = np.stack([np.arange(101.0), np.full(101, np.nan)], axis=1)
    found, undefined = intervals(np.array([50.0, 1.0]), draws, 0.9)
    assert found == Interval(50, pytest.approx(5), pytest.approx(95))
    assert undefined.value == 1 and np.isnan([undefined.lo, undefined.hi]).all()


def test_a_thousand_draws_give_an_interval_of_95_percent_by_default():
    true, a, b = methods(50)
    for function, *arguments in (
        (bootstrap, lambda rows: float(true[rows].mean()), 50),
        (paired_bootstrap, metrics.mae, true, (a,), (b,)),
    ):
        assert function(*arguments) == function(*arguments, level=0.95, n_draws=1000, seed=0)


def test_every_draw_takes_as_many_rows_as_there_are():
    taken = []
    bootstrap(lambda rows: taken.append(np.sort(rows)) or 0.0, 30, n_draws=2)
    assert all(len(rows) == 30 and rows[0] >= 0 and rows[-1] < 30 for rows in taken)
    assert sorted(len(np.unique(rows)) == 30 for rows in taken) == [False, False, True]


def test_pairing_finds_a_difference_smaller_than_the_noise_of_either():
    true, a, b = methods()
    difference = paired_bootstrap(metrics.mae, true, (a,), (b,))
    assert difference.value == metrics.mae(true, a) - metrics.mae(true, b)
    assert difference.lo < difference.value < difference.hi < 0


def test_interval_agrees_with_scipy():
    true, a, b = methods()
    gain = np.abs(true - a) - np.abs(true - b)
    oracle = stats.bootstrap((gain,), np.mean, n_resamples=2000, method="percentile", rng=0)
    ours = paired_bootstrap(metrics.mae, true, (a,), (b,), n_draws=2000)
    assert [ours.lo, ours.hi] == pytest.approx(list(oracle.confidence_interval), abs=0.003)


def test_seeded_and_with_a_spread():
    true, a, b = methods()
    std = np.abs(a) + 0.1
    first, again = (paired_bootstrap(metrics.crps, true, (a, std), (b, std), n_draws=50) for _ in range(2))
    assert first == again
    assert first != paired_bootstrap(metrics.crps, true, (a, std), (b, std), n_draws=50, seed=1)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="row"):
        paired_bootstrap(metrics.mae, [], ([],), ([],))
    with pytest.raises(ValueError, match=r"1 .* 2"):
        paired_bootstrap(metrics.mae, [1, 2], ([1],), ([1, 2],))
    for wrong in ({"level": 1.5}, {"n_draws": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            paired_bootstrap(metrics.mae, [1], ([1],), ([1],), **wrong)
