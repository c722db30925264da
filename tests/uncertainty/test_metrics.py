import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn import metrics as sk

from mofgap.uncertainty import metrics as m

SPREAD_METRICS = [m.spearman, m.pearson, m.ause, m.nll, m.crps, m.ence, m.miscalibration_area]
OUTCOME_METRICS = [m.auroc, m.brier, m.probability_error, m.spiegelhalter]
quick = settings(max_examples=25)
seeds = st.integers(0, 2**32 - 1)


def rows(seed: int = 0, n: int = 300, ties: bool = False):
    rng = np.random.default_rng(seed)
    std = rng.uniform(0.05, 1.0, n)
    if ties:
        std = np.round(std, 1) + 0.05
    pred = rng.normal(2, 1, n)
    return pred + std * rng.standard_normal(n), pred, std


def test_point_metrics_agree_with_sklearn():
    true, pred, _ = rows()
    assert m.mae(true, pred) == pytest.approx(sk.mean_absolute_error(true, pred))
    assert m.rmse(true, pred) == pytest.approx(sk.root_mean_squared_error(true, pred))
    assert m.r2(true, pred) == pytest.approx(sk.r2_score(true, pred))


def test_what_reports_are_made_with_is_pinned():
    assert m.LEVELS == (0.5, 0.8, 0.9, 0.95)
    true, pred, std = rows()
    assert m.ence(true, pred, std) == m.ence(true, pred, std, n_bins=10)
    probability, outcome = std, true > pred
    assert m.probability_error(outcome, probability) == m.probability_error(outcome, probability, n_bins=10)
    for expected in (m.expected_spearman, m.expected_pearson):
        assert expected(std) == expected(std, n_draws=200, seed=0) != expected(std, n_draws=100, seed=0)


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_by_counting(ties):
    true, pred, std = rows(ties=ties)
    error = np.round(np.abs(true - pred), 1 if ties else 9)
    ranks = [(x[:, None] > x).sum(axis=1) + ((x[:, None] == x).sum(axis=1) + 1) / 2 for x in (std, error)]
    assert m.spearman(error, 0 * error, std) == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-12)
    assert m.pearson(error, 0 * error, std) == pytest.approx(np.corrcoef(std, error)[0, 1], rel=1e-12)


def test_spreads_too_small_to_be_squared_are_correlated():
    error, std = np.array([1.0, 2.0, 4.0]), np.array([1e-200, 3e-200, 2e-200])
    found = m.pearson(error, 0 * error, std), m.pearson(error, 0 * error, 1e200 * std)
    assert found[0] == pytest.approx(found[1])
    assert m.spearman(error, 0 * error, std) == pytest.approx(0.5)


def test_expected_correlation_is_what_exact_errors_give():
    true, pred, std = rows(n=20_000)
    assert m.expected_spearman(std, n_draws=20) == pytest.approx(m.spearman(true, pred, std), abs=0.02)
    assert m.expected_pearson(std, n_draws=20) == pytest.approx(m.pearson(true, pred, std), abs=0.02)
    # E|N(0, s^2)| = s sqrt(2 / pi), so the linear correlation has a closed form.
    mean_abs = std * np.sqrt(2 / np.pi)
    exact = np.cov(std, mean_abs)[0, 1] / np.sqrt(std.var() * (np.mean(std**2) - mean_abs.mean() ** 2))
    assert m.expected_pearson(std, n_draws=50) == pytest.approx(exact, abs=0.005)


def test_expected_pearson_of_one_draw_is_that_of_its_errors():
    std = np.sort(rows()[2])
    errors = np.abs(np.random.default_rng(3).standard_normal((1, len(std)))[0]) * std
    assert m.expected_pearson(std, 1, seed=3) == pytest.approx(np.corrcoef(std, errors)[0, 1])


@pytest.mark.parametrize(("error", "std"), [(0.0, 1.0), (0.7, 0.2), (-1.3, 0.9), (3.0, 0.1)])
def test_crps_is_the_integral_that_defines_it(error, std):
    def squared(x: float) -> float:
        return (stats.norm.cdf(x, 0, std) - (x >= error)) ** 2

    ends = -20 * std - abs(error), 20 * std + abs(error)
    area = sum(
        integrate.quad(squared, lo, hi, limit=200)[0]
        for lo, hi in [(ends[0], min(0, error)), (min(0, error), max(0, error)), (max(0, error), ends[1])]
    )
    assert m.crps([error], [0.0], [std]) == pytest.approx(area, rel=1e-6)


def test_the_slope_of_the_crps_is_its_derivative_by_std():
    error, std = np.abs(np.random.default_rng(0).normal(size=(2, 20))) + 0.01
    step = 1e-5
    difference = m.gaussian_crps(error, std + step)[0] - m.gaussian_crps(error, std - step)[0]
    np.testing.assert_allclose(m.gaussian_crps(error, std)[1], difference / (2 * step), atol=1e-7)


def test_nll_is_in_nats():
    assert m.nll([1.0], [0.0], [2.0]) == pytest.approx(0.5 * np.log(2 * np.pi * 4) + 1 / 8)


@pytest.mark.filterwarnings("error")
def test_what_is_not_defined_is_nan_without_a_warning():
    numbers, same = [1.0, 2.0, 4.0], [1.0, 1.0, 1.0]
    for correlation in (m.spearman, m.pearson):
        assert np.isnan(correlation(numbers, [0.0, 0.0, 0.0], same))
        assert np.isnan(correlation(same, [0.0, 0.0, 0.0], numbers))
    assert np.isnan(m.nll([0.0, 1.0], [0.0, 0.0], [1.0, 0.0]))
    assert np.isnan([m.auroc([1, 1, 1], numbers), m.auroc([], []), m.r2(same, numbers)]).all()
    assert np.isnan([m.expected_pearson(same), m.expected_spearman(same)]).all()
    assert np.isnan(m.spiegelhalter([1, 0], [1, 0]))


def test_zero_std_is_a_point_mass():
    assert m.crps([1.0, 2.0], [1.5, 2.0], [0.0, 0.0]) == 0.25
    assert m.ence([1.0], [1.0], [0.0]) == 0
    assert m.ence([1.0], [2.0], [0.0]) == np.inf
    assert m.miscalibration_area([1.0], [2.0], [0.0]) == pytest.approx(0.495)
    assert m.miscalibration_area([1.0], [1.0], [0.0]) == pytest.approx(0.5)


def test_ause_against_removal_one_by_one():
    true, pred, std = rows(n=40)
    error = np.abs(true - pred)

    def remaining(key):
        order = np.argsort(-key)
        return np.array([error[order[k:]].mean() for k in range(len(error))])

    expected = np.mean(remaining(std) - remaining(error)) / error.mean()
    assert m.ause(true, pred, std) == pytest.approx(expected)


def test_ause_of_ties_is_the_mean_over_their_orders():
    true, pred, std = np.array([0.1, 0.9, 0.4, 1.5, 0.2]), np.zeros(5), np.array([1.0, 1.0, 2.0, 2.0, 2.0])
    rng = np.random.default_rng(0)
    shuffled = [m.ause(true, pred, std + 1e-6 * rng.random(5)) for _ in range(4000)]
    assert m.ause(true, pred, std) == pytest.approx(np.mean(shuffled), abs=0.01)


def test_ence_against_a_loop():
    true, pred, std = rows(n=100)
    order = np.argsort(std)
    terms = []
    for part in np.split(order, 5):
        rmv, root = np.sqrt(np.mean(std[part] ** 2)), np.sqrt(np.mean((true - pred)[part] ** 2))
        terms.append(abs(rmv - root) / rmv)
    assert m.ence(true, pred, std, n_bins=5) == pytest.approx(np.mean(terms))


def test_miscalibration_area_by_counting_rows_in_intervals():
    true, pred, std = rows(n=50)
    true[7] = pred[7]  # in the interval of level 0
    gaps = []
    for percent in range(101):
        half = stats.norm.ppf((1 + percent / 100) / 2) * std
        gaps.append(abs(np.mean(np.abs(true - pred) <= half) - percent / 100))
    area = sum((a + b) / 200 for a, b in itertools.pairwise(gaps))
    assert m.miscalibration_area(true, pred, std) == pytest.approx(area, rel=1e-9)


def test_the_area_of_gaussians_and_of_their_distribution_functions_is_the_same():
    true, pred, std = rows(n=500)
    for factor in (0.7, 1.0, 2.0):
        pit = stats.norm.cdf(true, pred, factor * std)
        assert m.predictive_area(pit) == pytest.approx(m.miscalibration_area(true, pred, factor * std))
    assert m.predictive_area(np.linspace(0, 1, 10_001)) < 1e-3
    assert np.isnan(m.predictive_area([]))


def test_gaussian_intervals_cover_what_they_say():
    true, pred, std = rows(n=50_000)
    for level in m.LEVELS:
        lo, hi = m.gaussian_interval(pred, std, level)
        assert m.coverage(true, lo, hi) == pytest.approx(level, abs=0.01)
        assert m.mean_width(lo, hi) == pytest.approx(2 * stats.norm.ppf((1 + level) / 2) * std.mean())


def test_coverage_counts_the_ends():
    assert m.coverage([1, 2, 3, 4], [1, 0, 3.5, -np.inf], [2, 2, 4, np.inf]) == 0.75


@given(seeds)
@quick
def test_auroc_by_counting_pairs(seed):
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(30) < 11)
    score = rng.integers(0, 8, 30)
    difference = score[label][:, None] - score[~label]
    assert m.auroc(label, score) == pytest.approx(((difference > 0) + 0.5 * (difference == 0)).mean())


@given(seeds)
@quick
def test_order_of_rows_does_not_matter(seed):
    true, pred, std = rows(seed, n=60, ties=True)
    shuffled = np.random.default_rng(seed).permutation(60)
    before, after = m.summary(true, pred, std), m.summary(true[shuffled], pred[shuffled], std[shuffled])
    assert after == pytest.approx(before, rel=1e-9)


def test_no_rows_and_one_row():
    empty = m.summary([], [], [])
    assert empty.pop("n") == 0
    assert all(np.isnan(value) for value in empty.values())
    one = m.summary([1.0], [1.5], [0.5])
    assert one["mae_ev"] == one["rmse_ev"] == 0.5
    assert one["ause"] == 0
    assert one["ence"] == 0
    undefined = {"r2", "spearman", "spearman_expected", "pearson", "pearson_expected"}
    assert {name for name, value in one.items() if np.isnan(value)} == undefined


@pytest.mark.parametrize("metric", SPREAD_METRICS)
def test_a_metric_names_the_column_that_is_wrong(metric):
    with pytest.raises(ValueError, match="y_std"):
        metric([1, 2], [1, 2], [1, -1])


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: m.mae([1, 2], [1]), "y_pred"),
        (lambda: m.coverage([1], [2], [1]), "interval"),
        (lambda: m.coverage([1, 2], [0], [1]), "lo and hi"),
        (lambda: m.mean_width([np.nan], [1]), "interval"),
        (lambda: m.gaussian_interval([1], [1], 1.0), "level"),
        (lambda: m.interval_score([1], [0], [2], 1.0), "level"),
        (lambda: m.ence([1], [1], [1], n_bins=0), "n_bins"),
        (lambda: m.probability_error([1], [1], n_bins=0), "n_bins"),
        (lambda: m.expected_pearson([1], n_draws=0), "n_draws"),
        (lambda: m.predictive_area([1.5]), "probability"),
        (lambda: m.predictive_area([-0.5]), "probability"),
        *((lambda metric=metric: metric([2], [0.5]), "is_positive") for metric in OUTCOME_METRICS),
        *((lambda metric=metric: metric([1], [1.2]), "probability") for metric in OUTCOME_METRICS[1:]),
        *((lambda metric=metric: metric([1], [-0.2]), "probability") for metric in OUTCOME_METRICS[1:]),
    ],
)
def test_arguments_out_of_range_are_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_summary_names_each_metric():
    true, pred, std = rows(n=80)
    found = m.summary(true, pred, std, seed=3)
    of_errors = {"mae_ev": m.mae, "rmse_ev": m.rmse, "r2": m.r2}
    of_spread = {"spearman": m.spearman, "pearson": m.pearson, "ause": m.ause, "nll": m.nll}
    of_spread |= {"crps_ev": m.crps, "ence": m.ence, "miscalibration_area": m.miscalibration_area}
    expected = {"n": 80} | {name: metric(true, pred) for name, metric in of_errors.items()}
    expected |= {name: metric(true, pred, std) for name, metric in of_spread.items()}
    expected["spearman_expected"] = m.expected_spearman(std, seed=3)
    expected["pearson_expected"] = m.expected_pearson(std, seed=3)
    for level in (0.5, 0.8, 0.9, 0.95):
        interval = m.gaussian_interval(pred, std, level)
        expected[f"coverage_{100 * level:g}"] = m.coverage(true, *interval)
        expected[f"width_{100 * level:g}_ev"] = m.mean_width(*interval)
    assert found == expected
    assert m.summary(true, pred, std) == m.summary(true, pred, std, seed=0) != found


def test_summary_takes_other_intervals():
    out = m.summary([1.0, 2.0], [1.0, 2.5], [0.1, 0.2], intervals={0.9: ([0.0, 2.1], [2.0, 3.1])})
    assert out["coverage_90"] == 0.5
    assert out["width_90_ev"] == pytest.approx(1.5)
    assert "coverage_50" not in out


def test_interval_score_by_hand():
    assert m.interval_score([1.0, 5.0, 0.0], [0, 2, 1], [2, 4, 2], 0.9) == pytest.approx(5 / 3 + 20 * 2 / 3)


def test_probabilities_by_hand():
    label, stated = np.array([0, 1, 0, 1, 1, 0]), np.array([0.1, 0.2, 0.2, 0.7, 0.9, 0.9])
    assert m.brier([1, 0], [1, 1]) == 0.5
    assert m.brier(label, stated) == pytest.approx(sk.brier_score_loss(label, stated))
    # Three bins of two rows by rank: {0.1, 0.2, 0.2} as equal ones share a bin, {0.7}, {0.9, 0.9}.
    assert m.probability_error(label, stated, n_bins=3) == pytest.approx((0.5 + 0.3 + 0.8) / 6)
    assert m.probability_error([1, 0, 1, 0], [0.5] * 4) == 0 and np.isnan(m.probability_error([], []))
    total, variance = (0.1 * 0.8 * -1 + 0.8 * 0.6 - 0.2 * 0.6 - 0.3 * 0.4 - 0.1 * 0.8 + 0.9 * 0.8), 0.0
    for p in stated:
        variance += (1 - 2 * p) ** 2 * p * (1 - p)
    assert m.spiegelhalter(label, stated) == pytest.approx(total / np.sqrt(variance))
