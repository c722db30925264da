"""One training and one file of predictions of a comparison, as they are planned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mofgap.study.config import ComparisonConfig, PredictionConfig, Recipe


def seed_name(split: str, name: str, seed: int) -> str:
    """``SPLIT/NAME-seedN``, the name of a training or of a file of predictions."""
    return f"{split}/{name}-seed{seed}"


@dataclass(frozen=True)
class Member:
    """One training.

    Attributes:
        split: Name of the split.
        method: What is trained.
        seed: Seed of initialisation, order and noise.
        recipe: How.
        variant: Name of the ablation; empty for the comparison's own recipe.
    """

    split: str
    method: str
    seed: int
    recipe: Recipe
    variant: str = ""

    @property
    def name(self) -> str:
        """``SPLIT/MEMBER``, its folder below ``members``."""
        return seed_name(self.split, self.variant or self.method, self.seed)


def most_trained(config: ComparisonConfig, trainings: Iterable[Member]) -> dict[str, int | None]:
    """The most training rows that the recipe or any training of each split takes; None for all."""
    found: dict[str, int | None] = dict.fromkeys(config.splits, config.recipe.n_train)
    for member in trainings:
        most, n = found[member.split], member.recipe.n_train
        found[member.split] = None if most is None or n is None else max(most, n)
    return found


@dataclass(frozen=True)
class Prediction:
    """One file of predictions.

    Attributes:
        split: Name of the split.
        method: What predicts.
        seed: Seed of the training.
        variant: Name of the ablation; empty for the comparison's own recipe.
        members: Names of the trainings it needs.
        predictions: Names of the predictions it is made of.
    """

    split: str
    method: str
    seed: int = 0
    variant: str = ""
    members: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``SPLIT/FILE``, below ``predictions`` and without its ending."""
        return seed_name(self.split, self.variant or self.method, self.seed)

    def draws(self, asked: PredictionConfig) -> tuple[int, ...]:
        """Numbers of draws, for a method that draws."""
        if not self.variant and self.seed < asked.full_curves:
            return asked.samples
        return tuple(n for n in asked.samples if n <= asked.most_samples) or asked.samples[:1]

    def is_corrected(self, asked: PredictionConfig) -> bool:
        """Whether it is also made with the neighbour correction."""
        return asked.neighbour_correction and not self.variant
