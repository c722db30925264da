"""What a comparison trains and predicts, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from mofgap.configuration import ConfigurationError, to_dict
from mofgap.study.config import ComparisonConfig, PredictionConfig, Recipe
from mofgap.study.methods.names import ENSEMBLE

Trained = Literal["full", "scratch", "lora", "dropout", "balora"]
TRAINED: tuple[Trained, ...] = ("full", "scratch", "lora", "dropout", "balora")

_ADAPTER = ("rank", "blocks", "modules")
_BAYESIAN = ("noise", "alpha", "prior_rate", "kl_weight", "noise_learning_rate")
_IRRELEVANT: dict[Trained, tuple[str, ...]] = {
    "full": (*_ADAPTER, *_BAYESIAN, "dropout"),
    "scratch": (*_ADAPTER, *_BAYESIAN, "dropout"),
    "lora": (*_BAYESIAN, "dropout", "encoder_learning_rate"),
    "dropout": (*_BAYESIAN, "encoder_learning_rate"),
    "balora": ("dropout", "encoder_learning_rate"),
}
"""Of the recipe, what a method does not read."""


_T = TypeVar("_T", "Member", "Prediction")


@dataclass(frozen=True)
class Member:
    """One training.

    Attributes:
        split: Name of the split.
        method: What is trained.
        seed: Of initialisation, order and noise.
        recipe: How.
        variant: Name of the ablation; empty for the comparison's own recipe.
    """

    split: str
    method: Trained
    seed: int
    recipe: Recipe
    variant: str = ""

    @property
    def name(self) -> str:
        """``SPLIT/MEMBER``, its folder below ``members``."""
        return f"{self.split}/{self.variant or self.method}-seed{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything of the recipe that this method reads, but for the number of rows."""
        unread = {*_IRRELEVANT[self.method], "n_train"}
        return {name: value for name, value in to_dict(self.recipe).items() if name not in unread}


@dataclass(frozen=True)
class Prediction:
    """One file of predictions.

    Attributes:
        split: Name of the split.
        source: A trained method, or ``mean``, ``composition``, ``laplace``, ``lora-ensemble``, ``published``.
        seed: Of the training.
        variant: Name of the ablation; empty for the comparison's own recipe.
        members: Names of the trainings it needs.
        predictions: Names of the predictions it is made of.
    """

    split: str
    source: str
    seed: int = 0
    variant: str = ""
    members: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``SPLIT/FILE``, below ``predictions`` and without its ending."""
        return f"{self.split}/{self.variant or self.source}-seed{self.seed}"

    def draws(self, asked: PredictionConfig) -> tuple[int, ...]:
        """Numbers of draws; none where nothing is drawn."""
        if self.source not in ("balora", "dropout"):
            return ()
        if not self.variant and self.seed < asked.full_curves:
            return asked.samples
        return tuple(n for n in asked.samples if n <= asked.most_samples) or asked.samples[:1]

    def is_corrected(self, asked: PredictionConfig) -> bool:
        """Whether it is also made with the neighbour correction."""
        return asked.neighbour_correction and not self.variant


def members(config: ComparisonConfig) -> list[Member]:
    """Every training of a comparison, the main ones first."""
    return [*_main(config), *_ablations(config)]


def _main(config: ComparisonConfig) -> Iterator[Member]:
    for split, described in config.splits.items():
        wanted = described.trainings
        counts: dict[Trained, int] = {name: getattr(wanted, name) for name in TRAINED}
        counts["lora"] = max(wanted.lora, wanted.ensemble)
        for method, count in counts.items():
            start = "random" if method == "scratch" else config.recipe.start
            recipe = replace(config.recipe, start=start)
            yield from (Member(split, method, seed, recipe) for seed in range(count))


def _ablations(config: ComparisonConfig) -> Iterator[Member]:
    for name, ablation in config.ablations.items():
        if idle := sorted(ablation.changes.keys() & set(_IRRELEVANT[ablation.method])):
            raise ConfigurationError(f"ablations.{name}: {ablation.method} does not read {', '.join(idle)}")
        recipe = ablation.applied(config.recipe)
        for seed in range(ablation.seeds):
            yield Member(ablation.split, ablation.method, seed, recipe, variant=name)


def predictions(config: ComparisonConfig) -> list[Prediction]:
    """Every file of predictions, each after those it is made of."""
    found = [Prediction(m.split, m.method, m.seed, m.variant, (m.name,)) for m in members(config)]
    for split, described in config.splits.items():
        lora = [
            Member(split, "lora", seed, config.recipe).name for seed in range(described.trainings.ensemble)
        ]
        found.append(Prediction(split, "mean"))
        found.append(Prediction(split, "composition"))
        for seed in range(described.trainings.lora):
            member = Member(split, "lora", seed, config.recipe).name
            found.append(Prediction(split, "laplace", seed, members=(member,)))
        if lora:
            found.append(Prediction(split, ENSEMBLE, members=tuple(lora), predictions=tuple(lora)))
        if config.data.published is not None and described.kind == "column":
            found.append(Prediction(split, "published"))
    return found


def tabled(config: ComparisonConfig, split: str) -> list[Prediction]:
    """The predictions of a split that stand in the tables.

    LoRA trainings beyond those asked for are members of the ensemble and nothing more.
    """
    n_lora = config.splits[split].trainings.lora
    return [
        p
        for p in predictions(config)
        if p.split == split and (p.source != "lora" or p.variant or p.seed < n_lora)
    ]


def member(config: ComparisonConfig, name: str) -> Member:
    """The training of a name.

    Raises:
        ConfigurationError: The comparison has none of that name.
    """
    return _named(name, members(config), "training")


def prediction(config: ComparisonConfig, name: str) -> Prediction:
    """The prediction of a name.

    Raises:
        ConfigurationError: The comparison has none of that name.
    """
    return _named(name, predictions(config), "prediction")


def _named(name: str, known: list[_T], what: str) -> _T:
    for each in known:
        if each.name == name:
            return each
    raise ConfigurationError(f"no {what} {name!r}: there are {', '.join(k.name for k in known)}")


def most_trained(config: ComparisonConfig) -> dict[str, int | None]:
    """The most training rows that any member of each split takes; None for all."""
    found: dict[str, int | None] = {name: config.recipe.n_train for name in config.splits}
    for member in members(config):
        most, n = found[member.split], member.recipe.n_train
        found[member.split] = None if most is None or n is None else max(most, n)
    return found


def first_blocks(config: ComparisonConfig) -> list[int]:
    """The first adapted block of every recipe: below it, the encoder's features are the pretrained ones."""
    return sorted({min(config.recipe.blocks), *(min(member.recipe.blocks) for member in members(config))})


def dataset_settings(config: ComparisonConfig) -> dict[str, Any]:
    """What of a comparison the rows and graphs of its dataset depend on, beside the files it reads."""
    data = to_dict(config.data)
    for name in ("table", "cifs", "published", "cache", "level_of_theory", "citation"):
        del data[name]
    splits = {name: to_dict(split) | {"trainings": None} for name, split in config.splits.items()}
    return {"data": data, "splits": splits, "n_train": most_trained(config)}
