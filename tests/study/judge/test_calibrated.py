from __future__ import annotations

import numpy as np
import pandas as pd

from mofgap.study.judge.calibrated import add_calibrated, fit, raw_parts


def predictions(n: int, epistemic_std_ev: object) -> pd.DataFrame:
    """Rows of val with errors of 0.3 eV."""
    rng = np.random.default_rng(0)
    gap_ev = rng.uniform(2, 3, n)
    return pd.DataFrame(
        {
            "id": [f"s{i}" for i in range(n)],
            "gap_dft_ev": gap_ev + rng.normal(0, 0.3, n),
            "gap_ev": gap_ev,
            "epistemic_std_ev": epistemic_std_ev,
            "aleatoric_std_ev": 0.3,
        }
    )


def test_draws_that_agree_to_the_last_bit_can_be_calibrated() -> None:
    for n in (30, 200):  # intervals alone, and the scaling too
        std = np.random.default_rng(1).uniform(0, 1e-5, n)
        std[::5] = 0.0
        val = predictions(n, std)
        calibration = fit(val, "epistemic")
        assert np.isfinite(calibration.std(*raw_parts(val, "epistemic"))).all()


def test_gaps_are_cut_at_zero_before_they_are_calibrated() -> None:
    val = predictions(30, 0.1).assign(method="lora", n_samples=0, part="val")
    below = val.assign(gap_ev=val.gap_ev.where(val.index > 0, -0.5))
    cut = below.assign(gap_ev=below.gap_ev.clip(lower=0))
    pd.testing.assert_frame_equal(add_calibrated(below), add_calibrated(cut))
    assert add_calibrated(below).gap_ev.min() == 0


def test_the_epistemic_part_stands_alone_or_not_at_all() -> None:
    val = predictions(4, [0.2, 0.1, np.nan, 0.0])
    epistemic, aleatoric = raw_parts(val, "epistemic")
    assert epistemic.tolist() == [0.2, 0.1, 1e-6, 1e-6] and aleatoric.tolist() == [0, 0, 0, 0]
    epistemic, aleatoric = raw_parts(val, "total")
    assert epistemic.tolist() == [0.2, 0.1, 0, 0] and aleatoric.tolist() == [0.3] * 4


def test_nothing_is_fitted_on_test() -> None:
    part = np.where(np.arange(400) < 200, "val", "test")
    frame = predictions(400, np.random.default_rng(2).uniform(0.1, 0.5, 400))
    frame = frame.assign(method="lora", n_samples=0, part=part)
    other = frame.assign(gap_dft_ev=frame.gap_dft_ev + np.where(part == "test", 3.0, 0.0))
    fitted = ["gap_std_ev", "lo_90_ev", "hi_90_ev"]
    pd.testing.assert_frame_equal(add_calibrated(other)[fitted], add_calibrated(frame)[fitted])
    moved = frame.assign(gap_dft_ev=frame.gap_dft_ev + np.where(part == "val", 3.0, 0.0))
    assert (add_calibrated(moved).gap_std_ev > add_calibrated(frame).gap_std_ev).all()
