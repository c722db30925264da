"""Bayesian low-rank adapters, with each way to a spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mofgap.study.methods.method import Estimated, Estimator, PredictionTask
from mofgap.study.methods.network import ADAPTERS, TrainedMethod

if TYPE_CHECKING:
    from mofgap.gap.model import GapModel


class Balora(TrainedMethod):
    """Bayesian low-rank adaptation, with draws of weights or rows, or in closed form."""

    estimators = (
        Estimator("balora-distance", "BaLoRA, distance"),
        Estimator("balora-closed-form", "BaLoRA, closed form"),
        Estimator("balora-weights", "BaLoRA, weights drawn", is_sampled=True),
        Estimator("balora-rows", "BaLoRA, rows drawn", is_sampled=True),
    )
    adaptation = "balora"
    does_draw = True
    reads = (*ADAPTERS, "noise", "alpha", "prior_rate", "kl_weight", "kl_warmup", "noise_learning_rate")
    reads_to_predict = ("noise",)

    def estimate(self, task: PredictionTask, model: GapModel) -> Estimated:
        """Without draws and with them; an ablation or a corrected model draws as it was trained alone."""
        from mofgap.study.methods import passes

        trained_alone = task.wanted.variant or model.correction is not None
        return passes.bayesian(
            model,
            *task.inputs,
            kinds=(task.recipe.noise,) if trained_alone else ("weights", "rows"),
            counts=task.draws,
            seed=task.config.prediction.seed,
        )

    def cost(self, estimator: str, n_samples: int) -> float:
        """The closed form takes a forward and a backward pass."""
        return 3.0 if estimator == "balora-closed-form" else super().cost(estimator, n_samples)
