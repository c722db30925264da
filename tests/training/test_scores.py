"""Scores of a training, and what they are worth."""

from __future__ import annotations

import numpy as np
import pytest

from mofgap.cli.training_run import show_scores
from mofgap.gap.posterior import Posterior
from mofgap.training.calibration import SCORED, evaluate
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
    assert f"({found['mae_ev_lo']:.3f} to {found['mae_ev_hi']:.3f})" in lines["MAE, eV"]
