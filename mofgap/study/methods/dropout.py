"""Low-rank adapters with dropout, which stays on in prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mofgap.study.config import Recipe
from mofgap.study.methods.method import Estimated, Estimator, PredictionTask
from mofgap.study.methods.network import ADAPTERS, TrainedMethod

if TYPE_CHECKING:
    from mofgap.gap.model import GapModel


class Dropout(TrainedMethod):
    """Monte Carlo dropout: Gal and Ghahramani, arXiv 1506.02142."""

    estimators = (Estimator("mc-dropout", "LoRA, MC dropout", is_sampled=True),)
    adaptation = "lora"
    does_draw = True
    reads = (*ADAPTERS, "dropout")
    reads_to_predict = ("dropout",)

    def dropout(self, recipe: Recipe) -> float:
        """The recipe's rate."""
        return recipe.dropout

    def estimate(self, task: PredictionTask, model: GapModel) -> Estimated:
        """Gaps and spreads over masks."""
        from mofgap.study.methods import passes

        rate, seed = task.recipe.dropout, task.config.prediction.seed
        return passes.mc_dropout(model, *task.inputs, rate=rate, counts=task.draws, seed=seed)
