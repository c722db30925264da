"""Low-rank adapters with a Gaussian over the head's last weights, put there after training."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mofgap.configuration import ConfigurationError
from mofgap.study.config import ComparisonConfig, SplitConfig
from mofgap.study.methods.method import Estimated, Estimator, PredictionTask, method_of
from mofgap.study.methods.network import NetworkMethod
from mofgap.study.planned import Prediction, seed_name

if TYPE_CHECKING:
    from mofgap.gap.model import GapModel


class Laplace(NetworkMethod):
    """Last-layer Laplace approximation of each LoRA training."""

    estimators = (Estimator("laplace", "LoRA, last-layer Laplace"),)

    def check(self, config: ComparisonConfig) -> None:
        """Refuse a comparison with the Laplace approximation where its package is not installed.

        Raises:
            ConfigurationError: If ``config`` asks for the Laplace approximation and the package ``laplace``
                is not installed.
        """
        wanted = any(self.trainings(split)["lora"] for split in config.splits.values())
        if wanted and find_spec("laplace") is None:
            raise ConfigurationError("the Laplace approximation of LoRA needs pip install 'mofgap[study]'")

    def trainings(self, split: SplitConfig) -> dict[str, int]:
        """The trainings of LoRA."""
        return method_of("lora").trainings(split)

    def predictions(self, config: ComparisonConfig, split: str) -> Iterator[Prediction]:
        """One for each LoRA training that stands in the tables."""
        for seed in range(self.trainings(config.splits[split])["lora"]):
            yield Prediction(split, self.name, seed, members=(seed_name(split, "lora", seed),))

    def estimate(self, task: PredictionTask, model: GapModel) -> Estimated:
        """The spread of the last layer's posterior around the model's own gap."""
        import torch

        from mofgap.study.methods import passes
        from mofgap.study.methods.last_layer import epistemic_std_ev, fit_laplace, pooled_of

        store, rows, batch_atoms = task.inputs
        train = pooled_of(model, store, task.rows.train, batch_atoms)
        gap_ev = torch.as_tensor(task.dataset.gap_ev[task.rows.train], dtype=train.dtype, device=train.device)
        fitted = fit_laplace(model, train, gap_ev)
        found = passes.mean(model, *task.inputs, "laplace")
        own, clock = found["laplace", 0], passes.clock()
        spread = epistemic_std_ev(model, fitted, pooled_of(model, *task.inputs))
        own.epistemic_std_ev = spread.detach().cpu().double().numpy()
        own.ms = max(own.ms, 1e3 * clock() / len(rows))
        return found
