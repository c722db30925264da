import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mofgap.uncertainty import metrics
from mofgap.uncertainty.calibrate import Calibration, fit_calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.groups import quantile_edges
from mofgap.uncertainty.scaling import Scaling, fit_scaling

N_TEST = 20_000


def synthetic(n: int, seed: int, mean: float = 2.0):
    """Gaps never below zero, skewed errors whose size the raw spread underestimates threefold."""
    rng = np.random.default_rng(seed)
    epistemic, aleatoric = rng.uniform(0.02, 0.2, n), rng.uniform(0.05, 0.3, n)
    gap = np.abs(rng.normal(mean, 1.0, n))
    skewed = (rng.gamma(4, size=n) - 4) / 2
    true = np.maximum(gap + 3 * np.hypot(epistemic, aleatoric) * skewed, 0)
    return true, gap, epistemic, aleatoric


def names(n: int) -> list[str]:
    return [f"mof-{i}" for i in range(n)]


def by_hash(ids: list[str]) -> np.ndarray:
    """Rows in the order in which folds are dealt and residuals kept."""
    return np.array(sorted(range(len(ids)), key=lambda i: hashlib.sha256(ids[i].encode()).digest()))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit_calibration(*synthetic(1000, 0), names(1000))


@pytest.fixture(scope="module")
def held_out(calibration):
    true, gap, epistemic, aleatoric = synthetic(N_TEST, 1)
    return true, gap, calibration.std(epistemic, aleatoric)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_coverage_is_within_what_chance_allows(calibration, held_out, coverage):
    true, gap, std = held_out
    hits = N_TEST * metrics.coverage(true, *calibration.interval(gap, std, coverage))
    n = len(calibration.residuals[0].values)
    rank = n + 1 - 2 * int((n + 1) * (1 - coverage) / 2 + 1e-9)
    # The coverage given n residuals is Beta distributed, the hits are binomial given the coverage.
    low, high = stats.betabinom(N_TEST, rank, n + 1 - rank).interval(0.999)
    assert low <= hits <= high


@pytest.mark.parametrize("equal_tails", [True, False])
def test_both_tails_hold_the_same_share_where_errors_are_skewed(calibration, held_out, equal_tails):
    true, gap, std = held_out
    assert calibration.equal_tails
    lo, hi = replace(calibration, equal_tails=equal_tails).interval(gap, std, 0.9)
    high = gap > 1  # the cut at zero covers lower gaps
    below, above = (true < lo)[high].mean(), (true > hi)[high].mean()
    if equal_tails:
        assert (below, above) == pytest.approx((0.05, 0.05), abs=0.015)
    else:
        assert below < 0.02 < 0.07 < above


def test_the_ends_of_an_interval_are_quantiles_of_the_distribution_behind_windows(calibration):
    lo, hi = calibration.interval([3.0], [0.4], 0.9)
    below = calibration.p_in_window([3.0], [0.4], None, lo[0])[0]
    above = calibration.p_in_window([3.0], [0.4], hi[0], None)[0]
    assert (below, above) == pytest.approx((0.05, 0.05), abs=2e-3)


def test_an_interval_holds_its_gap_where_all_errors_have_one_sign():
    one_sided = Residuals(tuple(np.linspace(1, 3, 300)))
    lo, hi = Calibration(Scaling(), (one_sided,), equal_tails=True).interval([2.0], [0.5], 0.9)
    assert lo == 2.0 and hi == pytest.approx(2.0 + 0.5 * 2.9, abs=0.01)


@pytest.mark.parametrize(("n", "equal_tails"), [(248, False), (249, True)])
def test_equal_tails_need_enough_rows_in_every_fold(n, equal_tails):
    fitted = fit_calibration(*synthetic(n, 0), names(n))
    assert fitted.equal_tails == equal_tails


def test_record_tells_what_was_fitted(calibration):
    record = calibration.record
    assert (record.n_scaling, record.n_residuals) == (1000, 1000)
    assert record.ids_sha256 == hashlib.sha256("\n".join(sorted(names(1000))).encode()).hexdigest()
    assert record.crps_ev < 0.9 * record.crps_raw_ev
    assert record.coverage["90"] == pytest.approx(0.9, abs=0.03)
    assert record.width_ev["50"] < record.width_ev["95"]


def test_record_scores_rows_that_did_not_fit(calibration):
    ids = names(1000)
    order = by_hash(ids)
    columns = synthetic(1000, 0)
    hits, std, width = np.zeros(1000), np.zeros(1000), np.zeros(1000)
    for k in range(5):
        held = order[k::5]
        rest = np.setdiff1d(order, held)
        fitted = fit_calibration(*(column[rest] for column in columns), [ids[i] for i in rest])
        true, gap, epistemic, aleatoric = (column[held] for column in columns)
        std[held] = fitted.std(epistemic, aleatoric)
        lo, hi = fitted.interval(gap, std[held], 0.9)
        hits[held], width[held] = (lo <= true) & (true <= hi), hi - lo
    true, gap, epistemic, aleatoric = columns
    record = calibration.record
    assert record.coverage["90"] == pytest.approx(hits.mean())
    assert record.width_ev["90"] == pytest.approx(width.mean(), rel=1e-5)
    assert record.crps_ev == pytest.approx(metrics.crps(true, gap, std), rel=1e-5)
    assert record.crps_raw_ev == pytest.approx(
        metrics.crps(true, gap, np.hypot(epistemic, aleatoric)), rel=1e-5
    )
    assert list(record.coverage) == list(record.width_ev) == ["50", "80", "90", "95"]


def test_order_of_rows_does_not_matter(calibration):
    shuffled = np.random.default_rng(5).permutation(1000)
    columns = [column[shuffled] for column in synthetic(1000, 0)]
    assert fit_calibration(*columns, [names(1000)[i] for i in shuffled]) == calibration


def test_many_rows_are_thinned():
    true, gap, epistemic, aleatoric = synthetic(9000, 2)
    fitted = fit_calibration(true, gap, epistemic, aleatoric, names(9000), scaling=Scaling())
    assert fitted.record.n_residuals == 5000
    kept = by_hash(names(9000))[:5000]
    z = ((true - gap) / np.hypot(epistemic, aleatoric))[kept]
    np.testing.assert_allclose(fitted.residuals[0].values, np.sort(z), rtol=1e-5)


def test_a_small_group_keeps_its_rows_among_many():
    n = 30_000
    novelty = np.ones(n)
    novelty[:300] = np.linspace(0, 0.5, 300)
    edges = quantile_edges(novelty, 5, 200)
    assert len(edges) == 1
    fitted = fit_calibration(*synthetic(n, 0), names(n), novelty=novelty, novelty_edges=edges)
    assert [len(group.values) for group in fitted.residuals] == [300, 2500]


def test_intervals_are_cut_at_zero_and_still_cover():
    rows = synthetic(1500, 3, mean=0.1)
    calibration = fit_calibration(*rows, names(1500))
    true, gap, epistemic, aleatoric = synthetic(N_TEST, 4, mean=0.1)
    lo, hi = calibration.interval(gap, calibration.std(epistemic, aleatoric), 0.9)
    assert (lo == 0).mean() > 0.2
    assert metrics.coverage(true, lo, hi) > 0.87
    assert calibration.interval([-5.0], [0.1])[1] == 0


@pytest.mark.parametrize("window", [(1.8, 3.0), (None, 1.0), (2.5, None), (0.0, 0.5), (2.0, 2.1)])
def test_p_in_window_is_calibrated(calibration, held_out, window):
    true, gap, std = held_out
    p = calibration.p_in_window(gap, std, *window)
    lo, hi = (-np.inf if window[0] is None else window[0]), (np.inf if window[1] is None else window[1])
    inside = (lo <= true) & (true <= hi)
    for part in np.array_split(np.argsort(p), 5):
        assert inside[part].mean() == pytest.approx(p[part].mean(), abs=0.05)


@given(
    st.floats(-1, 8),
    st.floats(0, 3),
    st.lists(st.floats(-2, 9), min_size=3, max_size=3),
)
@settings(max_examples=100)
def test_p_in_window_is_a_probability(calibration, gap, std, cuts):
    low, middle, high = sorted(cuts)
    for each in (calibration, Calibration.raw()):

        def p(lo, hi, each=each):
            return float(each.p_in_window([gap], [std], lo, hi)[0])

        assert 0 <= p(low, middle) <= p(low, high) <= p(low, None) <= p(None, np.inf) == 1
        assert p(middle, high) <= p(low, high) <= p(None, high)
        if middle > 0:
            assert p(low, high) == pytest.approx(p(low, middle) + p(middle, high), abs=1e-9)
            assert p(None, middle) + p(middle, None) == pytest.approx(1)


def test_mass_below_zero_lies_at_zero(calibration):
    gap, std = [0.05], [0.5]
    at_zero = calibration.p_in_window(gap, std, 0, 0)
    assert at_zero > 0.2
    assert at_zero == calibration.p_in_window(gap, std, -3, 0)
    assert calibration.p_in_window(gap, std, None, None) == 1
    assert calibration.p_in_window(gap, std, None, -0.1) == 0


def test_failed_rows_stay_unknown(calibration):
    gap, std = [np.nan, 1.0, 1.0], [0.1, np.nan, 0.1]
    for column in (*calibration.interval(gap, std), calibration.p_in_window(gap, std, None, 2.0)):
        assert np.isnan(column).tolist() == [True, True, False]


def test_each_residual_is_judged_by_a_scaling_that_never_saw_it(calibration):
    ids = names(1000)
    order = by_hash(ids)
    true, gap, epistemic, aleatoric = (column[order] for column in synthetic(1000, 0))
    z, fold = np.zeros(1000), np.arange(1000) % 5
    for k in range(5):
        rest, held = fold != k, fold == k
        scaling = fit_scaling((true - gap)[rest], epistemic[rest], aleatoric[rest])
        z[held] = (true - gap)[held] / scaling(epistemic[held], aleatoric[held])
    np.testing.assert_allclose(calibration.residuals[0].values, np.sort(z), rtol=1e-5)
    assert calibration.scaling == fit_scaling(true - gap, epistemic, aleatoric)


def test_groups_of_novelty_hold_their_coverage_where_one_for_all_does_not():
    true, gap, epistemic, aleatoric = synthetic(6000, 8)
    novelty = np.random.default_rng(80).random(6000)
    true = np.maximum(gap + (0.5 + novelty) * (true - gap), 0)
    half = [column[:2000] for column in (true, gap, epistemic, aleatoric)]
    edges = quantile_edges(novelty[:2000], 4, 200)
    grouped = fit_calibration(*half, names(2000), novelty=novelty[:2000], novelty_edges=edges)
    single = fit_calibration(*half, names(2000))
    assert len(grouped.residuals) == 4 and len(grouped.record.coverage_90_by_group) == 4
    assert grouped.record.coverage_90_by_group == pytest.approx([0.9] * 4, abs=0.05)
    assert len(set(grouped.record.coverage_90_by_group)) > 1
    assert np.mean(grouped.record.coverage_90_by_group) == pytest.approx(
        grouped.record.coverage["90"], abs=1e-3
    )
    last = novelty > edges[-1]
    covered = {}
    for name, each in (("grouped", grouped), ("single", single)):
        std = each.std(epistemic[2000:], aleatoric[2000:])
        lo, hi = each.interval(gap[2000:], std, 0.9, novelty[2000:])
        covered[name] = metrics.coverage(true[2000:][last[2000:]], lo[last[2000:]], hi[last[2000:]])
    assert covered["single"] < 0.86 < covered["grouped"] < 0.94


def test_novel_structures_get_their_own_width():
    true, gap, epistemic, aleatoric = synthetic(2000, 6)
    novelty = np.random.default_rng(60).random(2000)
    far = novelty > 0.7
    true = np.where(far, np.maximum(gap + 3 * (true - gap), 0), true)
    half = [column[:1000] for column in (true, gap, epistemic, aleatoric)]
    split = fit_calibration(*half, names(1000), novelty=novelty[:1000], novelty_edges=[0.7])
    std = split.std(epistemic[1000:], aleatoric[1000:])
    lo, hi = split.interval(gap[1000:], std, 0.9, novelty[1000:])
    for group in (far[1000:], ~far[1000:]):
        assert metrics.coverage(true[1000:][group], lo[group], hi[group]) == pytest.approx(0.9, abs=0.06)
    near_width, far_width, unknown = np.diff(
        split.interval([3.0] * 3, [0.1] * 3, 0.9, [0.1, 0.9, np.nan]), axis=0
    )[0]
    assert far_width > 2 * near_width
    assert unknown == far_width
    with pytest.raises(ValueError, match="novelty"):
        split.interval([3.0], [0.1])


def test_raw_is_gaussian_and_says_so(calibration):
    raw = Calibration.raw()
    assert raw.is_raw
    assert not calibration.is_raw
    lo, hi = raw.interval([2.0], [0.5], 0.9)
    assert [lo[0], hi[0]] == pytest.approx(stats.norm.interval(0.9, 2.0, 0.5))
    p = raw.p_in_window([2.0, 2.0], [0.5, 0.0], 1.8, 3.0)
    assert p == pytest.approx([stats.norm.cdf(2) - stats.norm.cdf(-0.4), 1.0])
    assert raw.p_in_window([2.0], [1e-6], 2.0 + 1e-6, None) == pytest.approx(stats.norm.sf(1))


def test_intervals_hold_90_percent_unless_asked(calibration):
    assert calibration.interval([3.0], [0.4]) == calibration.interval([3.0], [0.4], 0.9)


def test_nonsense_is_refused(calibration):
    rows, ids = synthetic(400, 0), names(400)
    with pytest.raises(ValueError, match=r"400 .* 1 "):
        fit_calibration(*rows, ["same"] * 400)
    with pytest.raises(ValueError, match="ids"):
        fit_calibration(*rows, ids[:399])
    with pytest.raises(ValueError, match=r"80 .*99"):  # the cross-validation leaves a fifth out
        fit_calibration(*(column[:100] for column in rows), ids[:100])
    with pytest.raises(ValueError, match=r"group.* 0 rows.*99"):
        fit_calibration(*rows, ids, novelty=np.zeros(400), novelty_edges=[0.5])
    with pytest.raises(ValueError, match=r"400 .*negative"):
        fit_calibration(-rows[0] - 1, *rows[1:], ids)
    for alone in ({"novelty_edges": [0.5]}, {"novelty": np.zeros(400)}):
        with pytest.raises(ValueError, match="novelty"):
            fit_calibration(*rows, ids, **alone)
    with pytest.raises(ValueError, match=r"0 .*99"):
        fit_calibration([], [], [], [], [])
    for window in ((2.0, 1.0), (np.nan, 1.0)):
        with pytest.raises(ValueError, match="window"):
            calibration.p_in_window([1.0], [0.1], *window)
    with pytest.raises(ValueError, match="negative"):
        calibration.interval([1.0], [-0.1])
    with pytest.raises(ValueError, match="gap_ev and std"):
        calibration.interval([1.0], [0.1, 0.2])
    with pytest.raises(ValueError, match="empirical"):
        Calibration(Scaling(), (Residuals(), calibration.residuals[0]), novelty_edges=(0.5,))
    with pytest.raises(ValueError, match="ascend"):
        Calibration(Scaling(), (Residuals(),) * 3, novelty_edges=(0.5, 0.5))


def test_a_given_scaling_leaves_all_rows_for_residuals_and_few_are_enough():
    table = synthetic(60, 3)
    fitted = fit_calibration(*table, names(60), scaling=Scaling(2.0, 1.5))
    assert fitted.scaling == Scaling(2.0, 1.5)
    assert fitted.record is not None
    assert (fitted.record.n_scaling, fitted.record.n_residuals) == (0, 60)
    fit_calibration(*(column[:24] for column in table), names(24), scaling=Scaling())
    with pytest.raises(ValueError, match=r"18 .*19"):
        fit_calibration(*(column[:23] for column in table), names(23), scaling=Scaling())


def test_many_groups_of_many_rows_still_give_wide_intervals():
    n_groups, n = 30, 30 * 250
    novelty = np.arange(n) % n_groups / n_groups
    edges = (np.arange(1, n_groups) - 0.5) / n_groups
    found = fit_calibration(*synthetic(n, 1), ids=names(n), novelty=novelty, novelty_edges=edges)
    assert not found.equal_tails, "5,000 residuals are shared by the groups"
    low, high = found.interval(np.ones(1), np.ones(1), 0.99, np.zeros(1))
    assert low < high


def test_a_row_without_a_spread_is_named():
    columns = [column[:30] for column in synthetic(30, 1)]
    columns[2][0] = columns[3][0] = 0.0
    with pytest.raises(ValueError, match="standard deviation of zero"):
        fit_calibration(*columns, ids=names(30), scaling=Scaling())
