"""What a comparison trains, on which splits, and how its claims are judged."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.json_schema import SkipJsonSchema

from mofgap.choices import BATCH_ATOMS, MAX_SEED, Adaptation, Alpha, Noise
from mofgap.configuration import ConfigurationError, part, schema
from mofgap.crystals.elements import atomic_number
from mofgap.nearest import hint
from mofgap.plain_words import settings_of
from mofgap.shipped import DEFAULT_ENCODER
from mofgap.study.methods.registry import METHODS
from mofgap.training.config import ComputeConfig, TrainingConfig

SplitKind = Literal["column", "grouped", "without"]
Start = Literal["pretrained", "random"]

is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch
"""Whether a text can be the name of a file or folder anywhere."""

Spread = Literal["epistemic", "total"]


@schema
class DataConfig:
    """The table of structures and gaps."""

    table: Path = Field(
        description="Parquet table of structures, gaps and splits, or CSV of gaps and splits."
    )
    cifs: Path | None = Field(None, description="Folder or archive of the CIFs that a CSV labels.")
    target: str = Field("gap_ev", description="Column of the gaps, eV.")
    level_of_theory: str = Field("unknown", description="Level of theory of the gaps.")
    citation: str = Field("", description="Reference to cite for the table, and its licence.")
    published: Path | None = Field(
        None,
        description="CSV of published predictions of test rows: an identifier, and a column of gaps in eV a "
        "method.",
    )
    n_val: int | None = Field(None, description="At most so many rows of val; null takes all.", ge=1)
    n_test: int | None = Field(None, description="At most so many rows of test; null takes all.", ge=2)
    cache: Path | None = Field(None, description="Folder that keeps graphs for other runs.")
    seed: int = Field(
        0,
        description="Seed of grouped splits, and of the choice of rows under n_val and n_test.",
        ge=0,
        le=MAX_SEED,
    )


@schema
class Trainings:
    """How many trainings of each method, with different seeds and data order; 0 leaves a method out."""

    full: int = Field(1, description="Every weight of the pretrained encoder is trained.", ge=0)
    scratch: int = Field(1, description="The same network, from random weights.", ge=0)
    lora: int = Field(
        3, description="Low-rank adapters; each gets a last-layer Laplace approximation too.", ge=0
    )
    balora: int = Field(3, description="Bayesian low-rank adapters.", ge=0)
    dropout: int = Field(1, description="Low-rank adapters with dropout, which stays on in prediction.", ge=0)
    ensemble: int = Field(
        5, description="Members of the ensemble of low-rank adapters, from seed 0; 0 for none.", ge=0
    )
    others: dict[str, NonNegativeInt] = Field(
        default_factory=dict,
        description="Numbers of trainings of methods that were added, by name; each has its own default. 0 "
        "leaves a method out, also one without trainings of its own, such as composition.",
    )

    def __post_init__(self) -> None:
        named = [field.name for field in fields(self)]
        for name in self.others:
            if name not in METHODS or name in named:
                words = f"unknown method {name!r}; {hint(name, [n for n in METHODS if n not in named])}"
                raise ConfigurationError(words, key="others")

    def of(self, method: str, default: int) -> int:
        """Number of trainings of a method; ``default`` if the configuration does not say."""
        return int(getattr(self, method, self.others.get(method, default)))


@schema
class SplitConfig:
    """Which rows are trained on, and which are predicted."""

    kind: SplitKind = Field(
        "column",
        description="column: as a column of train/val/test says. grouped: of the same sizes, no group on two "
        "sides. without: as the column says, but rows with an element are never trained on, and are "
        "tested in addition to the ordinary rows.",
    )
    column: str = Field("split", description="Column of train, val and test.")
    group: str = Field("group", description="Column of the groups, for a grouped split.")
    n_test: int | None = Field(
        None, description="Rows tested, for a grouped split; null takes as many as the column.", ge=2
    )
    element: str | None = Field(None, description="Symbol of the element left out, for a split without one.")
    trainings: Trainings = Field(default_factory=Trainings)

    def __post_init__(self) -> None:
        if (self.kind == "without") != (self.element is not None):
            raise ConfigurationError("goes with kind: without, and only with it", key="element")
        if self.n_test is not None and self.kind != "grouped":
            raise ConfigurationError("goes with kind: grouped, and only with it", key="n_test")
        if self.element is not None and not atomic_number(self.element):
            raise ConfigurationError(f"{self.element!r} is no element's symbol", key="element")


@schema
class Recipe(TrainingConfig):
    """How a network is built and trained: the same for every method, except for what defines the method."""

    # What a comparison decides itself, for each of its trainings.
    method: SkipJsonSchema[Adaptation] = Field("balora", init=False)
    seed: SkipJsonSchema[int] = Field(0, init=False)
    unfreeze: SkipJsonSchema[bool] = Field(False, init=False)
    neighbour_correction: SkipJsonSchema[bool] = Field(False, init=False)

    start: Start = Field("pretrained", description="Weights the encoder starts from.")
    n_train: int | None = Field(None, description="Training structures; null takes all.", ge=20)
    epochs: int = Field(20, description="Passes over the training structures, at most.", ge=1)
    dropout: float = Field(0.1, description="Rate of the method dropout.", gt=0.0, lt=1.0)

    def training(self, method: Adaptation, **others: Any) -> TrainingConfig:
        """The settings of one training by a method of the gap model; others replace the recipe's."""
        own = vars(self) | {"dropout": 0.0}  # which only the method dropout has
        return part(TrainingConfig, own, **others | {"method": method})


@schema
class Ablation:
    """The recipe with one thing changed; whatever is null stays."""

    method: str = Field(
        "balora",
        description="What is trained: balora, lora, full, scratch, dropout, or one that was added.",
    )
    split: str = Field("split", description="Name of the split.")
    seeds: int = Field(1, description="Trainings.", ge=1)
    start: Start | None = Field(None, description="See recipe.")
    n_train: int | None = Field(None, description="See recipe.")
    epochs: int | None = Field(None, description="See recipe.")
    rank: int | None = Field(None, description="See recipe.")
    blocks: tuple[int, ...] | None = Field(None, description="See recipe.")
    modules: tuple[str, ...] | None = Field(None, description="See recipe.")
    noise: Noise | None = Field(None, description="See recipe.")
    alpha: Alpha | None = Field(None, description="See recipe.")
    prior_rate: float | None = Field(None, description="See recipe.")
    kl_weight: float | None = Field(None, description="See recipe.")
    error_weighting: float | None = Field(None, description="See recipe.")

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            words = f"unknown method {self.method!r}; {hint(self.method, METHODS)}"
            raise ConfigurationError(words, key="method")
        if len(self.changes) != 1:
            given = ", ".join(self.changes) or "none"
            raise ConfigurationError(f"an ablation changes one thing of the recipe, not {given}")
        self.applied(Recipe())  # which checks type and range

    @property
    def changes(self) -> dict[str, Any]:
        """The changed settings, by the recipe's names."""
        given = {name: value for name, value in vars(self).items() if name in settings_of(Recipe)}
        return {name: value for name, value in given.items() if value is not None}

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with the changes."""
        return replace(recipe, **self.changes)


@schema
class PredictionConfig:
    """How much is predicted."""

    samples: tuple[PositiveInt, ...] = Field(
        (1, 2, 4, 8, 16, 32, 64, 128),
        description="Numbers of draws of the sampling methods. The mean is always predicted too.",
    )
    full_curves: int = Field(
        3, description="Seeds that predict with all of these numbers; others stop at most_samples.", ge=0
    )
    most_samples: int = Field(32, description="Draws of the other seeds, and of ablations.", ge=1)
    n_val: int | None = Field(
        600, description="Rows of val that calibration is fitted on; null takes all.", ge=25
    )
    neighbour_correction: bool = Field(
        False, description="Also predict with the neighbour correction, every method alike."
    )
    seed: int = Field(0, description="Seed of the draws.", ge=0, le=MAX_SEED)
    batch_atoms: int = Field(BATCH_ATOMS, description="Atoms predicted at once.", ge=1)

    def __post_init__(self) -> None:
        if not self.samples:
            raise ConfigurationError("name at least one number of draws", key="samples")
        if list(self.samples) != sorted(set(self.samples)):
            raise ConfigurationError(f"expected rising numbers, got {list(self.samples)}", key="samples")


@schema
class JudgementConfig:
    """How the claims are judged; fixed before anything is trained."""

    estimator: Literal[
        "balora-closed-form",
        "balora-weights",
        "balora-rows",
        "balora-distance+neighbours",
        "balora-weights+neighbours",
    ] = Field("balora-weights", description="BaLoRA's spread that the headline verdicts are about.")
    spread: Spread = Field(
        "epistemic", description="epistemic: the spread of the posterior. total: with that of the likelihood."
    )
    margin_ev: float = Field(
        0.005, description="Largest difference of mean absolute errors that does not matter, eV.", gt=0.0
    )
    level: float = Field(0.95, description="Level of the bootstrap intervals.", gt=0.0, lt=1.0)
    n_draws: int = Field(1000, description="Resamplings of the bootstrap.", ge=10)
    n_bins: int = Field(10, description="Bins of the expected normalised calibration error.", ge=1)
    seed: int = Field(0, description="Seed of the bootstrap.", ge=0, le=MAX_SEED)


@schema
class ComparisonConfig:
    """A comparison of methods: trained on the same rows, from the same encoder, for the same passes."""

    data: DataConfig = Field(description="The table of structures and gaps.")
    encoder: str = Field(DEFAULT_ENCODER, description="Pretrained encoder: a shipped name, or a folder.")
    splits: dict[str, SplitConfig] = Field(
        default_factory=lambda: {"split": SplitConfig()}, description="Splits by name."
    )
    recipe: Recipe = Field(default_factory=Recipe)
    ablations: dict[str, Ablation] = Field(
        default_factory=dict, description="Trainings with one thing changed, by name."
    )
    prediction: PredictionConfig = Field(default_factory=PredictionConfig)
    judgement: JudgementConfig = Field(default_factory=JudgementConfig)
    compute: ComputeConfig = Field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        if not self.splits:
            raise ConfigurationError("name at least one", key="splits")
        for section_name, names in (("splits", self.splits), ("ablations", self.ablations)):
            for name in names:
                if not is_name(name):
                    expected = "names of letters, digits, dots, dashes"
                    raise ConfigurationError(f"expected {expected}, got {name!r}", key=section_name)
        estimator = self.judgement.estimator
        if estimator.endswith("+neighbours") and not self.prediction.neighbour_correction:
            words = f"{estimator} needs prediction.neighbour_correction"
            raise ConfigurationError(words, key="judgement.estimator")
        for name, ablation in self.ablations.items():
            if name in METHODS:
                raise ConfigurationError(f"{name!r} is the name of a method: choose another", key="ablations")
            if ablation.split not in self.splits:
                raise ConfigurationError(
                    f"no split {ablation.split!r} is defined", key=f"ablations.{name}.split"
                )
            ablation.applied(self.recipe)
