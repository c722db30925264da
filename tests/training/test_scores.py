"""Scores of a training, and what they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from mofgap.cli.training_run import show_scores
from mofgap.gap.error_bars import UNKNOWN_STD_EV
from mofgap.gap.posterior import Posterior
from mofgap.training.calibration import SCORED, calibration_of, evaluate, matched
from mofgap.uncertainty import metrics
from mofgap.uncertainty.bootstrap import bootstrap
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.scaling import Scaling


def predictions(n: int) -> tuple[Posterior, np.ndarray]:
    rng = np.random.default_rng(n)
    gap, spread = rng.uniform(1, 4, n), rng.uniform(0.1, 0.9, n)
    return Posterior(gap, np.full(n, np.nan), spread, np.empty((n, 0))), gap + spread * rng.normal(size=n)


def scored(n: int) -> dict[str, float]:
    found, gap_ev = predictions(n)
    return evaluate(found, Calibration(Scaling(), (Residuals(),)), gap_ev, np.zeros(n))


def test_intervals_are_those_of_a_bootstrap_over_the_structures() -> None:
    found, gap_ev = predictions(60)
    got = scored(60)
    wanted = bootstrap(lambda rows: metrics.mae(gap_ev[rows], found.gap_ev[rows]), 60)
    assert (got["mae_ev_lo"], got["mae_ev_hi"]) == pytest.approx((wanted.lo, wanted.hi))
    rank = bootstrap(
        lambda rows: metrics.spearman(gap_ev[rows], found.gap_ev[rows], found.aleatoric_std_ev[rows]), 60
    )
    assert (got["spearman_lo"], got["spearman_hi"]) == pytest.approx((rank.lo, rank.hi))
    assert all(got[f"{name}_lo"] <= got[name] <= got[f"{name}_hi"] for name in SCORED)


def test_scored_error_bars_are_those_of_predictions() -> None:
    fitted = Calibration(Scaling(), (Residuals(tuple(np.linspace(-2, 2, 101))),))
    for epistemic, std_ev in ((np.nan, 0.3), (0.4, UNKNOWN_STD_EV)):  # 0.6 of the gap is epistemic, and 3 eV
        found = Posterior(np.full(2, 5.0), np.full(2, epistemic), np.full(2, 0.3), np.empty((2, 0)))
        got = evaluate(found, fitted, np.full(2, 5.0), np.zeros(2), np.ones(2))
        lo, hi = fitted.interval([5.0], [std_ev], 0.9)
        assert got["width_90_ev"] == pytest.approx(float(hi[0] - lo[0]))


@pytest.mark.parametrize(("n", "given"), [(29, False), (30, True)])
def test_no_rank_correlation_of_fewer_than_thirty_structures(
    n: int, given: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scored(n)
    assert np.isfinite(found["spearman"]) == given == np.isfinite(found["spearman_expected"])
    show_scores({"val": found})
    lines = dict(line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert lines["structures"] == str(n)
    assert (lines["Spearman(std, |error|)"] == "-") != given
    assert lines["mean width of 90 % intervals, eV"] == f"{found['width_90_ev']:.3f}"
    assert f"({found['mae_ev_lo']:.3f} to {found['mae_ev_hi']:.3f})" in lines["MAE, eV"]


def test_one_factor_fits_standard_deviations_to_few_errors_and_moves_no_interval() -> None:
    rng = np.random.default_rng(0)
    gap, spread = rng.uniform(3, 5, 100), rng.uniform(0.1, 0.3, 100)
    found = Posterior(gap, np.full(100, np.nan), spread, np.empty((100, 0)))
    label = gap + 4 * spread * rng.normal(size=100)
    kept = calibration_of(found, label, [f"s{i}" for i in range(100)], Scaling(1.0, 0.5, 0.1))
    fitted = matched(kept)
    std = [each.std(np.zeros(100), spread) for each in (kept, fitted)]
    assert np.mean(np.square((label - gap) / std[1])) == pytest.approx(1, abs=0.2)
    both = list(zip((kept, fitted), std, strict=True))
    for level in (0.5, 0.9):
        intervals = [each.interval(gap, s, level, np.zeros(100)) for each, s in both]
        np.testing.assert_allclose(*intervals, rtol=1e-4)
    np.testing.assert_allclose(*(each.p_in_window(gap, s, 3.0, 4.0) for each, s in both), atol=0.011)
    assert matched(fitted).scaling.aleatoric == pytest.approx(fitted.scaling.aleatoric, rel=1e-3)
