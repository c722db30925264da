"""Every weight of the encoder is trained, from pretrained or from random weights."""

from __future__ import annotations

from dataclasses import replace

from mofgap.study.config import Recipe
from mofgap.study.methods.method import Estimator
from mofgap.study.methods.network import TrainedMethod


class Full(TrainedMethod):
    """Full fine-tuning."""

    estimators = (Estimator("full", "full fine-tuning", has_spread=False),)
    adaptation = "full"
    reads = ("encoder_learning_rate",)

    def cost(self, estimator: str, n_samples: int) -> float:
        """One pass; its neighbours are found by activations, without gradients."""
        return 1.0


class Scratch(Full):
    """The same network, from random weights."""

    estimators = (Estimator("scratch", "from random weights", has_spread=False),)
    kind = "baseline"

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe, from random weights."""
        return replace(recipe, start="random")
