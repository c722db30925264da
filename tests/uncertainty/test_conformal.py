import numpy as np
import pytest
from crepes import ConformalRegressor
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from mofgap.uncertainty.conformal import (
    MAX_COVERAGE,
    MIN_COVERAGE,
    MIN_RESIDUALS,
    MIN_RESIDUALS_99,
    MIN_TAIL_RESIDUALS,
    Residuals,
)

seeds = st.integers(0, 2**32 - 1)


def drawn(n: int = 400, seed: int = 0) -> Residuals:
    return Residuals(tuple(np.sort(np.random.default_rng(seed).standard_t(3, n))))


def half_width(residuals: Residuals, coverage: float) -> float:
    low, high = residuals.ends(coverage, equal_tails=False)
    assert low == -high
    return high


def test_limits_are_pinned():
    assert (MIN_RESIDUALS, MIN_RESIDUALS_99, MIN_TAIL_RESIDUALS) == (19, 99, 199)
    assert (MIN_COVERAGE, MAX_COVERAGE) == (0.5, 0.99)


@given(seeds, st.integers(99, 700), st.floats(0.5, 0.99))
@settings(max_examples=60)
def test_intervals_are_those_of_crepes(seed, n, coverage):
    # On a whole rank crepes rounds (1 - coverage) (n + 1) down by a float's hair and takes one rank more.
    assume(abs((n + 1) * coverage - round((n + 1) * coverage)) > 1e-6)
    rng = np.random.default_rng(seed)
    error, std = rng.standard_t(4, n), rng.uniform(0.1, 2, n)
    oracle = ConformalRegressor().fit(error, sigmas=std)
    gap, new_std = rng.normal(3, 1, 5), rng.uniform(0.1, 2, 5)
    expected = oracle.predict_int(gap, sigmas=new_std, confidence=coverage)
    half = half_width(Residuals(tuple(np.sort(error / std))), coverage) * new_std
    np.testing.assert_allclose(np.stack([gap - half, gap + half], axis=1), expected)


@pytest.mark.parametrize(
    ("n", "coverage", "rank"),
    [(99, 0.99, 99), (109, 0.9, 99), (110, 0.9, 100), (19, 0.5, 10), (99, 0.55, 55)],  # 100 * 0.55 > 55
)
def test_quantile_is_exact_in_a_finite_sample(n, coverage, rank):
    assert half_width(Residuals(tuple(float(i) for i in range(1, n + 1))), coverage) == rank


@pytest.mark.parametrize(
    ("n", "coverage", "rank"),
    [(199, 0.99, 1), (199, 0.9, 10), (198, 0.9, 9), (39, 0.95, 1), (40, 0.9, 2), (100, 0.5, 25)],
)
def test_equal_tails_leave_out_as_many_residuals_on_either_side(n, coverage, rank):
    low, high = Residuals(tuple(float(i) for i in range(1, n + 1))).ends(coverage, equal_tails=True)
    assert (low, high) == (rank, n + 1 - rank)


@given(seeds, st.integers(MIN_TAIL_RESIDUALS, 500), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=40)
def test_equal_tails_are_quantiles_of_the_distribution(seed, n, coverage):
    residuals = Residuals(tuple(np.sort(np.random.default_rng(seed).gumbel(size=n))))
    low, high = residuals.ends(coverage, equal_tails=True)
    below, above = residuals.cdf(low), 1 - residuals.cdf(high)
    assert below == pytest.approx(above)
    assert (1 - coverage) / 2 - 1 / (n + 1) < below <= (1 - coverage) / 2 + 1e-9


def test_few_residuals_promise_only_what_they_can():
    few = Residuals(tuple(float(i) for i in range(1, 20)))
    assert half_width(few, 0.95) == 19 and half_width(few, 0.9) == 18
    assert few.ends(0.9, equal_tails=True) == (1, 19)
    with pytest.raises(ValueError, match=r"19 .*95 %"):
        half_width(few, 0.96)
    with pytest.raises(ValueError, match=r"20 .*95 %"):  # 20 / 21, rounded down
        half_width(Residuals((*few.values, 20.0)), 0.96)
    with pytest.raises(ValueError, match=r"19 .*90 %"):
        few.ends(0.91, equal_tails=True)


def test_without_residuals_it_is_the_normal_distribution():
    for equal_tails in (False, True):
        ends = Residuals().ends(0.95, equal_tails=equal_tails)
        assert ends == pytest.approx((-1.959964, 1.959964), abs=1e-6)
    z = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(Residuals().cdf(z), stats.norm.cdf(z))


@given(seeds)
@settings(max_examples=25)
def test_cdf_is_a_distribution_function(seed):
    residuals = drawn(150, seed)
    z = np.linspace(residuals.values[0] - 5, residuals.values[-1] + 5, 500)
    cdf = residuals.cdf(z)
    assert (np.diff(cdf) > 0).all(), "strictly increasing, so that no two windows tie"
    assert 0 < cdf[0] < 0.01 < 0.99 < cdf[-1] < 1
    assert residuals.cdf(-np.inf) == 0
    assert residuals.cdf(np.inf) == pytest.approx(1)
    np.testing.assert_allclose(residuals.cdf(residuals.values), np.arange(1, 151) / 151)


def test_a_residual_counts_by_its_size():
    assert half_width(Residuals(tuple(float(i) for i in range(-60, 40))), 0.99) == 60


def test_tails_decay_over_one_std():
    residuals, beyond = drawn(99), np.array([0.5, 2.0])
    np.testing.assert_allclose(residuals.cdf(residuals.values[0] - beyond), np.exp(-beyond) / 100)
    np.testing.assert_allclose(residuals.cdf(residuals.values[-1] + beyond), 1 - np.exp(-beyond) / 100)


def test_nan_goes_through():
    assert np.isnan(drawn().cdf(np.array([np.nan, 0.0]))).tolist() == [True, False]


def test_nonsense_is_refused():
    for coverage in (0.499, 0.991, 1.0, np.nan):
        with pytest.raises(ValueError, match=f"coverage.*{coverage}"):
            drawn().ends(coverage, equal_tails=True)
    with pytest.raises(ValueError, match=r"19.*18"):
        Residuals(tuple(float(i) for i in range(18)))
    with pytest.raises(ValueError, match="sorted"):
        Residuals(tuple(float(i) for i in range(100, 0, -1)))
    with pytest.raises(ValueError, match="finite"):
        Residuals((*range(100), np.inf))
