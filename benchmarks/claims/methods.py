"""The methods: how each adapts a network, what is tried for it, and how it is trained and sampled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmarks.claims.config import TrainingConfig
from benchmarks.claims.outcomes import OUTCOMES
from benchmarks.claims.task import Backbone, Split, Task
from mofgap.balora import BaLoRAConfig, BaLoRAModel, get_balora_model
from mofgap.balora.dropout import dropout


@dataclass(frozen=True)
class Choice:
    """Hyperparameters of a training.

    Attributes:
        rate: Peak learning rate.
        rank: Of the adapters; 0 where there are none.
        constant: The method's own: weight of the divergence or rate of dropout; 0 where it has none.
    """

    rate: float
    rank: int = 0
    constant: float = 0.0


class Method(ABC):
    """A way to fine-tune a pretrained network.

    Attributes:
        name: In settings and tables.
        is_sampled: Whether predictions are random.
        has_closed_form: Whether the variance of the logits is known without samples.
    """

    name: ClassVar[str]
    is_sampled: ClassVar[bool] = False
    has_closed_form: ClassVar[bool] = False

    def choices(self, config: TrainingConfig) -> list[Choice]:
        """What is tried, as many choices for every method."""
        ranks, rates, own = config.ranks, config.rates, self.constants(config)
        return [
            Choice(rank=ranks[i % len(ranks)], rate=rates[i % len(rates)], constant=own[i % len(own)])
            for i in range(config.tries)
        ]

    def constants(self, config: TrainingConfig) -> Sequence[float]:
        """Values of the method's own constant that are tried."""
        return (0.0,)

    @abstractmethod
    def network(self, task: Task, backbone: Backbone, choice: Choice, seed: int) -> nn.Module:
        """The network to train; those of its parameters that require a gradient are trained."""

    def noise(
        self, model: Any, choice: Choice, generator: torch.Generator | None = None
    ) -> AbstractContextManager[Any]:
        """Noise in training and in each sampled pass, where the model does not add it itself."""
        return nullcontext()

    def divergence(self, model: Any, n_train: int) -> Tensor:
        """What is added to the loss."""
        return torch.zeros(())

    @torch.no_grad()
    def logits(
        self, model: Any, split: Split, choice: Choice, n: int = 1, seed: int = 0, size: int = 250
    ) -> Tensor:
        """(n, n_inputs, n_classes) logits: samples, or the one prediction of a method without noise.

        Args:
            model: Trained.
            split: Inputs.
            choice: Hyperparameters of the training.
            n: Number of samples.
            seed: Of the samples.
            size: Inputs that are predicted at once.
        """
        model.eval()
        found = []
        for i, batch in enumerate(split.batches(size)):
            found.append(self._sampled(model, batch, choice, n, 1000 * seed + i))
        return torch.cat(found, 1)

    def _sampled(self, model: Any, batch: Split, choice: Choice, n: int, seed: int) -> Tensor:
        passed: Tensor = model(*batch.inputs)
        return passed[None]


class Full(Method):
    """All weights of the network are trained."""

    name = "full"

    def choices(self, config: TrainingConfig) -> list[Choice]:
        """Rates alone."""
        rates = config.full_rates
        return [Choice(rate=rates[i % len(rates)]) for i in range(config.tries)]

    def network(self, task: Task, backbone: Backbone, choice: Choice, seed: int) -> nn.Module:
        """The backbone as it is."""
        return backbone.network(task.n_classes, seed)


class LoRA(Method):
    """Low-rank adapters without noise."""

    name = "lora"
    settings: ClassVar[dict[str, Any]] = {"posterior": "none"}

    def network(self, task: Task, backbone: Backbone, choice: Choice, seed: int) -> BaLoRAModel:
        """The backbone with adapters and a head that is trained whole."""
        own = dict(self.settings)
        if own.get("posterior") != "none":
            own |= {"beta": choice.constant, "curvature": OUTCOMES[task.kind].curvature}
        config = BaLoRAConfig(
            target_modules=backbone.target_modules,
            modules_to_save=(backbone.head,),
            r=choice.rank,
            lora_alpha=2.0 * choice.rank,
            n_train=len(task.train),
            n_features=getattr(backbone, "n_features", None),
            **own,
        )
        network = backbone.network(task.n_classes, seed)
        torch.manual_seed(seed + 1)
        callbacks = {name: getattr(backbone, name, None) for name in ("features", "rows")}
        return get_balora_model(network, config, **callbacks)


class Dropout(LoRA):
    """LoRA with dropout in front of the adapters, which stays on in prediction: arXiv 1506.02142."""

    name = "dropout"
    is_sampled = True

    def constants(self, config: TrainingConfig) -> Sequence[float]:
        """Rates of dropout."""
        return config.dropouts

    def noise(
        self, model: Any, choice: Choice, generator: torch.Generator | None = None
    ) -> AbstractContextManager[Any]:
        """Masks of the adapters' inputs."""
        return dropout(model.layers, choice.constant, generator)

    def _sampled(self, model: Any, batch: Split, choice: Choice, n: int, seed: int) -> Tensor:
        with self.noise(model, choice, torch.Generator().manual_seed(seed)):
            return torch.stack([model(*batch.inputs) for _ in range(n)])


class BaLoRAWeights(LoRA):
    """BaLoRA; a draw of the weights for each input."""

    name = "balora"
    is_sampled = True
    has_closed_form = True
    settings: ClassVar[dict[str, Any]] = {"noise": "weights"}

    def constants(self, config: TrainingConfig) -> Sequence[float]:
        """Weights of the divergence."""
        return config.betas

    def divergence(self, model: Any, n_train: int) -> Tensor:
        """Beta times the divergence from the prior, over the number of training inputs."""
        found: Tensor = model.kl_loss(n_train)
        return found

    def _sampled(self, model: Any, batch: Split, choice: Choice, n: int, seed: int) -> Tensor:
        found: Tensor = model.sample(batch.inputs, n, seed=seed)
        return found


class BaLoRARows(BaLoRAWeights):
    """BaLoRA as in the paper; fresh noise for each token or pixel."""

    name = "balora-rows"
    has_closed_form = False
    settings: ClassVar[dict[str, Any]] = {"noise": "rows"}


class Analytic(BaLoRAWeights):
    """BaLoRA with the alpha of least loss in place of a network."""

    name = "balora-analytic"
    settings: ClassVar[dict[str, Any]] = {"posterior": "analytic"}


class Constant(BaLoRAWeights):
    """One learned alpha a layer: variational dropout."""

    name = "balora-constant"
    settings: ClassVar[dict[str, Any]] = {"posterior": "constant"}


class Blob(BaLoRAWeights):
    """A learned Gaussian over each element of A, as in BLoB: arXiv 2406.11675."""

    name = "blob"
    settings: ClassVar[dict[str, Any]] = {"posterior": "diagonal"}


METHODS: dict[str, Method] = {
    method.name: method
    for method in (LoRA(), BaLoRAWeights(), BaLoRARows(), Full(), Dropout(), Blob(), Constant(), Analytic())
}
"""In the order of tables."""


def fit(
    method: Method, task: Task, backbone: Backbone, choice: Choice, seed: int, config: TrainingConfig
) -> nn.Module:
    """Train a network for a number of passes; the rate rises, then falls to zero.

    The order of the inputs depends on the seed alone, so that it is the same for every method.
    """
    model = method.network(task, backbone, choice, seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=choice.rate, weight_decay=0.0)
    n_steps = config.epochs * -(-len(task.train) // config.batch)
    n_rising = max(1, round(config.warm_up * n_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / n_rising, (n_steps - step) / max(1, n_steps - n_rising))
    )
    order = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed + 2)  # of the noise
    model.train()
    for _ in range(config.epochs):
        for batch in task.train.batches(config.batch, order):
            assert batch.labels is not None
            with method.noise(model, choice):
                loss = OUTCOMES[task.kind].loss(model(*batch.inputs), batch.labels)
                loss = loss + method.divergence(model, len(task.train))
                optimizer.zero_grad()
                loss.backward()
            if config.clip is not None:
                nn.utils.clip_grad_norm_(trained, config.clip)
            optimizer.step()
            schedule.step()
    return model.eval()
