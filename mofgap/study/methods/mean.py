"""The mean of the training gaps, for everything."""

from __future__ import annotations

from mofgap.study.methods.method import Baseline, Estimated, Estimates, Estimator, PredictionTask


class Mean(Baseline):
    """A baseline: the mean and standard deviation of the training gaps."""

    estimators = (Estimator("mean", "mean of training", has_spread=False),)

    def predict(self, task: PredictionTask) -> Estimated:
        """The same for every structure."""
        import numpy as np

        train, n = task.dataset.gap_ev[task.rows.train], len(task.rows.all)
        gap, std = np.full(n, train.mean()), np.full(n, train.std())
        return {("mean", 0): Estimates(gap, np.full(n, np.nan), std, 0.0)}
