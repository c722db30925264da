"""What a comparison trains and predicts, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from mofgap.configuration import ConfigurationError, to_dict
from mofgap.study.config import ComparisonConfig, SplitConfig
from mofgap.study.methods.method import Method, method_of, methods
from mofgap.study.planned import Member, Prediction, most_trained

_T = TypeVar("_T", Member, Prediction)


def members(config: ComparisonConfig) -> list[Member]:
    """Every training of a comparison, the main ones first."""
    return [*_main(config), *_ablations(config)]


def _main(config: ComparisonConfig) -> Iterator[Member]:
    for split, described in config.splits.items():
        needed = [method.trainings(described) for method in _kept(split, described)]
        for method in methods():
            recipe = method.recipe(config.recipe)
            n = max(trainings.get(method.name, 0) for trainings in needed)
            yield from (Member(split, method.name, seed, recipe) for seed in range(n))


def _kept(split: str, described: SplitConfig) -> list[Method]:
    """The methods that a split does not leave out."""
    asked = {method: described.trainings.others.get(method.name, 1) for method in methods()}
    for method, n in asked.items():
        if n > 1 and method.adaptation is None:
            where = f"comparison.splits.{split}.trainings.others.{method.name}"
            raise ConfigurationError(f"{where}: it has no trainings of its own; 1 keeps it, 0 leaves it out")
    return [method for method, n in asked.items() if n]


def _ablations(config: ComparisonConfig) -> Iterator[Member]:
    for name, ablation in config.ablations.items():
        method = method_of(ablation.method)
        if method.adaptation is None:
            words = f"{method.name} trains no network of its own"
            raise ConfigurationError(f"comparison.ablations.{name}: {words}")
        if left := sorted(ablation.changes.keys() & unread(method)):
            words = f"{method.name} does not read {', '.join(left)}"
            raise ConfigurationError(f"comparison.ablations.{name}: {words}")
        recipe = ablation.applied(method.recipe(config.recipe))
        for seed in range(ablation.seeds):
            yield Member(ablation.split, ablation.method, seed, recipe, variant=name)


def unread(method: Method) -> set[str]:
    """Settings of the recipe that a method does not read: what others read by name, and it does not."""
    return {setting for other in methods() for setting in other.reads} - set(method.reads)


def training_settings(member: Member) -> dict[str, Any]:
    """All settings of the recipe that a training depends on, except the number of rows."""
    method = method_of(member.method)
    left = unread(method) | {"n_train"}
    settings = {name: value for name, value in to_dict(member.recipe).items() if name not in left}
    return settings | {"adaptation": method.adaptation, "dropout": method.dropout(member.recipe)}


def predictions(config: ComparisonConfig) -> list[Prediction]:
    """Every file of predictions, each after those it is made of."""
    own = [Prediction(m.split, m.method, m.seed, m.variant, (m.name,)) for m in members(config)]
    return own + [
        each
        for split, described in config.splits.items()
        for method in _kept(split, described)
        for each in method.predictions(config, split)
    ]


def tabled(config: ComparisonConfig, split: str) -> list[Prediction]:
    """The predictions of a split that are in the tables.

    Trainings beyond those asked for are members of an ensemble and nothing more.
    """
    described = config.splits[split]
    asked = {m.name: m.trainings(described)[m.name] for m in methods() if m.adaptation}
    return [
        p
        for p in predictions(config)
        if p.split == split and (p.variant or p.seed < asked.get(p.method, p.seed + 1))
    ]


def member(config: ComparisonConfig, name: str) -> Member:
    """The training of that name.

    Raises:
        ConfigurationError: If ``config`` has no training with the name ``name``.
    """
    return _named(name, members(config), "training")


def prediction(config: ComparisonConfig, name: str) -> Prediction:
    """The prediction of that name.

    Raises:
        ConfigurationError: If ``config`` has no prediction with the name ``name``.
    """
    return _named(name, predictions(config), "prediction")


def _named(name: str, known: list[_T], what: str) -> _T:
    for each in known:
        if each.name == name:
            return each
    raise ConfigurationError(f"no {what} {name!r}: there are {', '.join(k.name for k in known)}")


def first_blocks(config: ComparisonConfig) -> list[int]:
    """The first adapted block of every recipe: below it, the encoder's features are the pretrained ones."""
    return sorted({min(config.recipe.blocks), *(min(member.recipe.blocks) for member in members(config))})


def dataset_settings(config: ComparisonConfig) -> dict[str, Any]:
    """Settings that the rows and graphs of the dataset depend on, in addition to the files that it reads."""
    data = to_dict(config.data)
    for name in ("table", "cifs", "published", "cache", "level_of_theory", "citation"):
        del data[name]
    splits = {name: to_dict(split) | {"trainings": None} for name, split in config.splits.items()}
    return {"data": data, "splits": splits, "n_train": most_trained(config, members(config))}
