"""Low-rank adapters without noise."""

from __future__ import annotations

from mofgap.study.methods.method import Estimator
from mofgap.study.methods.network import ADAPTERS, TrainedMethod


class Lora(TrainedMethod):
    """Low-rank adaptation: Hu et al., arXiv 2106.09685."""

    estimators = (Estimator("lora", "LoRA", has_spread=False),)
    adaptation = "lora"
    reads = ADAPTERS
