import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mofgap.uncertainty import metrics
from mofgap.uncertainty.scaling import Scaling, fit_scaling

factors = st.floats(0, 10)


def spreads(n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng, rng.uniform(0.01, 0.2, n), rng.uniform(0.1, 0.6, n)


def test_finds_the_factors_that_made_the_errors():
    rng, epistemic, aleatoric = spreads(40_000)
    truth = Scaling(3.0, 0.7, 0.1)
    found = fit_scaling(truth(epistemic, aleatoric) * rng.standard_normal(40_000), epistemic, aleatoric)
    assert found.epistemic == pytest.approx(3, rel=0.05)
    assert found.aleatoric == pytest.approx(0.7, rel=0.05)
    assert found.floor_ev == pytest.approx(0.1, abs=0.05)


def test_no_other_search_finds_a_smaller_crps():
    rng, epistemic, aleatoric = spreads(500)
    error = 0.4 * rng.standard_t(3, 500) * np.sqrt(1 + 30 * epistemic**2)

    def loss(p):
        return metrics.crps(error, np.zeros(500), Scaling(*np.abs(p))(epistemic, aleatoric))

    found = fit_scaling(error, epistemic, aleatoric)
    best = min(minimize(loss, x0, method="Nelder-Mead").fun for x0 in ([1, 1, 0.1], [5, 0.1, 0.3]))
    assert loss([found.epistemic, found.aleatoric, found.floor_ev]) <= best + 1e-5


def test_a_few_wild_errors_hardly_move_it():
    rng, epistemic, aleatoric = spreads(2000)
    error = aleatoric * rng.standard_normal(2000)
    wild = error.copy()
    wild[:20] = 8.0
    before, after = (fit_scaling(e, epistemic, aleatoric)(epistemic, aleatoric) for e in (error, wild))
    assert after.mean() < 1.15 * before.mean()
    assert np.sqrt(np.mean(wild**2)) > 2 * np.sqrt(np.mean(error**2))


@given(st.integers(0, 1000), st.floats(0.01, 100))
@settings(max_examples=20)
def test_the_unit_of_the_errors_does_not_matter(seed, unit):
    rng, epistemic, aleatoric = spreads(300, seed)
    error = rng.standard_normal(300)
    one, other = (
        fit_scaling(error, epistemic, aleatoric),
        fit_scaling(error, unit * epistemic, unit * aleatoric),
    )
    np.testing.assert_allclose(
        other(unit * epistemic, unit * aleatoric), one(epistemic, aleatoric), rtol=1e-4
    )


@given(factors, factors, factors, st.floats(0, 5), st.floats(0, 5), st.floats(0, 5))
def test_grows_with_either_part(a, b, c, small, more, other):
    scaling = Scaling(a, b, c)
    assert scaling([small + more], [other]) >= scaling([small], [other])
    assert scaling([other], [small + more]) >= scaling([other], [small])


def test_a_missing_part_or_perfect_predictions_still_give_a_positive_spread():
    rng, epistemic, _ = spreads(300)
    zero = np.zeros(300)
    without = fit_scaling(rng.standard_normal(300), epistemic, zero)
    assert without.aleatoric == 1.0 and (without(epistemic, zero) > 0).all()
    assert fit_scaling(zero, zero, zero) == Scaling(1.0, 1.0, 0.001)
    tiny = fit_scaling(1e-6 * rng.standard_normal(300), epistemic, zero)
    assert tiny.floor_ev == pytest.approx(0.001)


def test_unit_scaling_adds_variances_and_passes_nan():
    np.testing.assert_array_equal(Scaling()([3.0, np.nan], [4.0, 1.0]), [5.0, np.nan])


def test_nonsense_is_refused():
    for wrong in ((-1.0, 1.0, 0.0), (1.0, np.nan, 0.0), (1.0, 1.0, np.inf)):
        with pytest.raises(ValueError, match="at least 0"):
            Scaling(*wrong)
    for parts in (([-0.1], [0.1]), ([0.1], [-0.1])):
        with pytest.raises(ValueError, match="negative"):
            Scaling()(*parts)
    with pytest.raises(ValueError, match=r"\(1,\).*\(2,\)"):
        Scaling()([0.1], [0.1, 0.2])
