"""What methods have in common that predict with one trained network."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from mofgap.study.config import SplitConfig
from mofgap.study.methods.method import NEIGHBOURS, Estimated, Method, PredictionTask

if TYPE_CHECKING:
    from mofgap.gap.model import GapModel

ADAPTERS = ("rank", "blocks", "modules")
"""Settings of the recipe that methods with adapters read."""

N_WARM_UP = 16
"""Structures of the pass before those that are timed."""


class NetworkMethod(Method):
    """Predicts with a trained network, and once more with the neighbour correction."""

    is_network = True

    def predict(self, task: PredictionTask) -> Estimated:
        """The estimates of the model as trained, and with the neighbour correction if it is asked for."""
        import torch

        from mofgap.gap.folder import read_model
        from mofgap.gap.posterior import fit_correction
        from mofgap.study.methods import passes

        cuda = torch.cuda.is_available() and task.config.compute.device != "cpu"
        model = read_model(task.layout.member(task.wanted.members[0]))[0].to("cuda" if cuda else "cpu")
        store, rows, batch_atoms = task.inputs
        # The first batch of a process is slow, and would count as the cost of what is timed first.
        passes.mean(model, store, rows[:N_WARM_UP], batch_atoms, self.name)
        found = self.estimate(task, model)
        if task.is_corrected:
            train = store.batches(task.rows.train, batch_atoms, model.device)
            fit_correction(model, train, torch.as_tensor(task.dataset.gap_ev[task.rows.train]))
            found |= {(name + NEIGHBOURS, n): each for (name, n), each in self.estimate(task, model).items()}
        return found

    @abstractmethod
    def estimate(self, task: PredictionTask, model: GapModel) -> Estimated:
        """The estimates of the model for the rows, with the neighbour correction if it has one."""

    def cost(self, estimator: str, n_samples: int) -> float:
        """A pass a draw; the correction takes a forward and a backward pass, and draws come on top."""
        return 3.0 + n_samples if estimator.endswith(NEIGHBOURS) else float(max(1, n_samples))


class TrainedMethod(NetworkMethod):
    """Trains the network that it predicts with. A subclass names its `adaptation`."""

    def trainings(self, split: SplitConfig) -> dict[str, int]:
        """As many as the configuration says."""
        return {self.name: split.trainings.of(self.name, self.n_trainings)}

    def estimate(self, task: PredictionTask, model: GapModel) -> Estimated:
        """The model's own gap and spread, without draws."""
        from mofgap.study.methods import passes

        return passes.mean(model, *task.inputs, self.estimators[0].name)
