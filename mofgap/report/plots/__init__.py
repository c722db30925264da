"""Plots that return a matplotlib Figure; `mofgap.report.figure.save` writes them.

Columns are arrays, or names of columns of ``df``. ``y_std`` is one column, or a dict of one for each
method; ``y_pred`` may be a dict of the same methods. Rows that lack a value are left out, and the caption
counts them. Names are pymatviz's where it has the same plot.
"""

from mofgap.report.plots.calibration import p_in_window_reliability, qq_gaussian
from mofgap.report.plots.comparison import metric_vs_cost, metric_vs_samples
from mofgap.report.plots.error import error_decay_with_uncert, error_vs_std, parity
from mofgap.report.plots.screening import gap_histogram, gap_vs_std, top_intervals

__all__ = [
    "error_decay_with_uncert",
    "error_vs_std",
    "gap_histogram",
    "gap_vs_std",
    "metric_vs_cost",
    "metric_vs_samples",
    "p_in_window_reliability",
    "parity",
    "qq_gaussian",
    "top_intervals",
]
