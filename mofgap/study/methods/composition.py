"""Gradient boosting on the composition: what a user would try without any network."""

from __future__ import annotations

from mofgap.study.methods.method import Baseline, Estimated, Estimates, Estimator, PredictionTask


class Composition(Baseline):
    """The gap and the ends of its central mass, by three regressors."""

    estimators = (Estimator("composition", "composition alone", has_spread=False),)

    def predict(self, task: PredictionTask) -> Estimated:
        """Fitted to the training rows of the split; half the width of the central mass is its spread."""
        import numpy as np

        from mofgap.study.methods.boosting import CompositionModel, composition_features
        from mofgap.study.methods.passes import clock

        dataset, rows = task.dataset, task.rows
        numbers = dataset.frame.atomic_numbers.tolist()
        train = composition_features([numbers[i] for i in rows.train])
        model = CompositionModel.fit(train, dataset.gap_ev[rows.train], task.wanted.seed)
        read = clock()
        gap, std = model.predict(composition_features([numbers[i] for i in rows.all]))
        none = np.full(len(gap), np.nan)
        return {("composition", 0): Estimates(gap, none, std, 1e3 * read() / len(gap))}
