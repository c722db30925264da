"""Statistics of ranks against the metrics, which sort anew."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mofgap.uncertainty import metrics
from mofgap.uncertainty.ranks import dense_ranks, rank_correlation, sparsification_area

quick = settings(max_examples=25)


def test_dense_ranks_count_distinct_values_from_zero():
    assert dense_ranks(np.array([0.5, 0.1, 0.5, 9.0])).tolist() == [1, 0, 1, 2]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2))
@quick
def test_resampled_ranks_give_the_statistics_of_resampled_values(seed, digits):
    rng = np.random.default_rng(seed)
    true, pred, std = rng.normal(size=50), rng.normal(size=50), np.round(rng.lognormal(size=50), digits)
    error = np.abs(true - pred)
    drawn = rng.integers(50, size=50)
    error_rank, std_rank = dense_ranks(error)[drawn], dense_ranks(std)[drawn]
    resampled = true[drawn], pred[drawn], std[drawn]
    found = rank_correlation(std_rank, error_rank)
    assert found == pytest.approx(stats.spearmanr(std[drawn], error[drawn]).statistic, rel=1e-12, abs=1e-15)
    area = sparsification_area(error[drawn], error_rank, std_rank)
    assert area == pytest.approx(metrics.ause(*resampled), rel=1e-12, abs=1e-15)


@pytest.mark.filterwarnings("error")
def test_a_constant_has_no_rank_correlation_and_no_error_leaves_no_area():
    same, other = np.array([3, 3, 3]), np.array([0, 1, 5])
    assert np.isnan(rank_correlation(same, other)) and np.isnan(rank_correlation(other, same))
    assert rank_correlation(other[:2], other[:2]) == 1
    assert rank_correlation(other, 2 * other) == 1 and rank_correlation(other, other[::-1]) == -1
    assert sparsification_area(np.zeros(3), np.zeros(3, dtype=np.intp), other) == 0
