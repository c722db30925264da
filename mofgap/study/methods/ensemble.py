"""An ensemble of LoRA trainings of different seeds."""

from __future__ import annotations

from collections.abc import Iterator

from mofgap.study.config import ComparisonConfig, SplitConfig
from mofgap.study.methods.method import (
    NEIGHBOURS,
    Estimated,
    Estimates,
    Estimator,
    Method,
    PredictionTask,
    method_of,
)
from mofgap.study.planned import Prediction, seed_name
from mofgap.whole_file import read_json


class LoraEnsemble(Method):
    """Deep ensemble: Lakshminarayanan et al., arXiv 1612.01474."""

    estimators = (Estimator("lora-ensemble", "LoRA ensemble", is_sampled=True),)
    is_network = True

    def trainings(self, split: SplitConfig) -> dict[str, int]:
        """LoRA trainings from seed 0."""
        return {"lora": split.trainings.ensemble}

    def predictions(self, config: ComparisonConfig, split: str) -> Iterator[Prediction]:
        """One file of predictions, made of those of its members."""
        n = config.splits[split].trainings.ensemble
        if names := tuple(seed_name(split, "lora", seed) for seed in range(n)):
            yield Prediction(split, self.name, members=names, predictions=names)

    def predict(self, task: PredictionTask) -> Estimated:
        """The first 1, 2, ... k members: the mean and standard deviation of a mixture of equal parts.

        Its epistemic variance is that between the members' gaps plus the mean of their own, by the law of
        total variance. Members have one of their own with the neighbour correction alone.
        """
        import numpy as np
        import pandas as pd

        frames = [pd.read_parquet(task.layout.prediction(name)) for name in task.wanted.predictions]
        costs = [read_json(task.layout.prediction_cost(name)) for name in task.wanted.predictions]
        found = {}
        for suffix in ("", NEIGHBOURS) if task.is_corrected else ("",):
            members = [frame[frame.method == "lora" + suffix] for frame in frames]
            columns = ("gap_ev", "epistemic_std_ev", "aleatoric_std_ev")
            gap, epistemic, aleatoric = (np.stack([m[c].to_numpy() for m in members]) for c in columns)
            own = np.nan_to_num(epistemic) ** 2
            ms = np.array([cost.get("predict_ms", {}).get(f"lora{suffix}@0", np.nan) for cost in costs])
            for k in range(1, len(members) + 1):
                between = gap[:k].var(0, ddof=1) if k > 1 else np.full(gap.shape[1], np.nan)
                std, within = np.sqrt(between + own[:k].mean(0)), np.sqrt((aleatoric[:k] ** 2).mean(0))
                found[self.name + suffix, k] = Estimates(gap[:k].mean(0), std, within, float(ms[:k].sum()))
        return found

    def cost(self, estimator: str, n_samples: int) -> float:
        """The cost of its members."""
        return n_samples * method_of("lora").cost(estimator, 0)
