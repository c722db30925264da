"""What a method of a comparison is: how it is trained, what it predicts, what it costs, what tables call it.

The modules of methods import torch and the like inside functions, so that a plan needs none of it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Literal

from mofgap.study.config import ComparisonConfig, PredictionConfig, Recipe, SplitConfig
from mofgap.study.layout import Layout
from mofgap.study.methods.registry import METHODS
from mofgap.study.planned import Prediction

if TYPE_CHECKING:
    from mofgap.choices import Adaptation
    from mofgap.crystals.store import GraphStore
    from mofgap.study.dataset import Dataset, SplitRows
    from mofgap.uncertainty.columns import Floats

NEIGHBOURS = "+neighbours"
"""Ends the name of an estimator with the neighbour correction."""

Kind = Literal["trained", "baseline", "published"]


@dataclass
class Estimates:
    """Gaps and spreads of an estimator for n structures.

    Attributes:
        gap_ev: (n,) gap, eV.
        epistemic_std_ev: (n,) NaN where there is none.
        aleatoric_std_ev: (n,) of the likelihood.
        ms: CPU milliseconds a structure.
    """

    gap_ev: Floats
    epistemic_std_ev: Floats
    aleatoric_std_ev: Floats
    ms: float


Estimated = dict[tuple[str, int], Estimates]
"""Estimates by the name of the estimator and its number of draws or members, 0 for none."""


@dataclass(frozen=True)
class Estimator:
    """One of a method's ways to predict, a method of its own in tables of predictions and scores.

    Attributes:
        name: In tables, in ``comparison.json`` and on the command line.
        label: In the tables and figures of a report.
        is_sampled: Whether it says more with more draws or members.
        has_spread: Whether it has an epistemic spread.
    """

    name: str
    label: str
    is_sampled: bool = False
    has_spread: bool = True


@dataclass(frozen=True, eq=False)
class PredictionTask:
    """One file of predictions to be made.

    Attributes:
        config: The comparison.
        layout: Its run folder.
        dataset: Its rows.
        wanted: What is predicted.
        rows: Which rows.
        recipe: Recipe of the training that it rests on.
        draws: Numbers of draws; empty for a method that does not draw.
    """

    config: ComparisonConfig
    layout: Layout
    dataset: Dataset
    wanted: Prediction
    rows: SplitRows
    recipe: Recipe
    draws: tuple[int, ...]

    @property
    def inputs(self) -> tuple[GraphStore, list[int], int]:
        """What a pass reads: the graphs, which of them, and the atoms of a batch."""
        return self.dataset.store, self.rows.all, self.config.prediction.batch_atoms

    @property
    def is_corrected(self) -> bool:
        """Whether it is also predicted with the neighbour correction."""
        return self.wanted.is_corrected(self.config.prediction)


class Method(ABC):
    """A method of a comparison. A subclass has a line in the registry, and no state.

    Attributes:
        estimators: Its ways to predict, in the order of tables.
        kind: ``trained`` here, a ``baseline``, or ``published`` by others.
        is_network: Whether it predicts with networks that the comparison trains.
        adaptation: How the encoder of a network of its own is trained; None for a method that trains none.
        training: Module whose ``train`` writes the folder of a trained member; a training is repeated where
            the module, or what it imports, does another thing than before.
        n_trainings: Trainings on each split, where the configuration does not say.
        does_draw: Whether it draws as many samples as the configuration says.
        reads: Settings of the recipe that it reads, of those that not every method reads.
        reads_to_predict: Settings of the recipe that its predictions depend on.
    """

    estimators: ClassVar[tuple[Estimator, ...]]
    kind: ClassVar[Kind] = "trained"
    is_network: ClassVar[bool] = False
    adaptation: ClassVar[Adaptation | None] = None
    training: ClassVar[str] = "mofgap.study.methods.training"
    n_trainings: ClassVar[int] = 1
    does_draw: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()
    reads_to_predict: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, config: ComparisonConfig) -> None:  # noqa: B027 (few have something to refuse)
        """Refuse a comparison that would fail later."""

    def check_structures(  # noqa: B027
        self, config: ComparisonConfig, ids: Sequence[str]
    ) -> None:
        """Refuse, before the training, what does not fit the structures of the dataset."""

    def trainings(self, split: SplitConfig) -> dict[str, int]:
        """How many trainings of which methods it needs on a split, from seed 0."""
        return {}

    def predictions(self, config: ComparisonConfig, split: str) -> Iterator[Prediction]:
        """The files of predictions of a split, but for those of trainings of its own, which each have one."""
        yield from ()

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe of a comparison as this method takes it."""
        return recipe

    def dropout(self, recipe: Recipe) -> float:
        """The rate of dropout in training."""
        return 0.0

    def draws(self, wanted: Prediction, asked: PredictionConfig) -> tuple[int, ...]:
        """Numbers of draws of a prediction; none for a method that does not draw."""
        return wanted.draws(asked) if self.does_draw else ()

    @abstractmethod
    def predict(self, task: PredictionTask) -> Estimated:
        """The estimates of each estimator for `PredictionTask.rows`.

        Names of estimators with the neighbour correction end in `NEIGHBOURS`.
        """

    def cost(self, estimator: str, n_samples: int) -> float:
        """Cost of one prediction in forward passes; a backward pass counts as two. NaN without a network."""
        return math.nan


class Baseline(Method):
    """Predicts each split once, without a network."""

    kind = "baseline"

    def predictions(self, config: ComparisonConfig, split: str) -> Iterator[Prediction]:
        """One for each split."""
        yield Prediction(split, self.name)


def method_of(name: str) -> Method:
    """The method of a name in the registry."""
    return _loaded(name, METHODS[name])


def methods() -> list[Method]:
    """Every method, in the order of the registry."""
    return [method_of(name) for name in METHODS]


@cache
def _loaded(name: str, path: str) -> Method:
    module, _, cls = path.partition(":")
    found: Method = getattr(import_module(module), cls)(name)
    return found


def uncorrected(estimator: str) -> str:
    """The name of an estimator without its neighbour correction."""
    return estimator.removesuffix(NEIGHBOURS)


def way(estimator: str, n_samples: int) -> str:
    """What tables call an estimator at a number of draws or members, 0 for none."""
    return f"{estimator}@{n_samples}" if n_samples else estimator


def estimators() -> dict[str, Estimator]:
    """Every estimator by name, in the order of tables."""
    return {each.name: each for method in methods() for each in method.estimators}


def method_with(estimator: str) -> Method:
    """The method that an estimator belongs to, with or without the neighbour correction.

    Whatever is the estimator of none was published by others.
    """
    name = uncorrected(estimator)
    found = (method for method in methods() if any(each.name == name for each in method.estimators))
    return next(found, method_of("published"))
