"""What a comparison trains, on which splits, and how its claims are judged."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import gemmi

from mofgap.configuration import ConfigurationError, section, setting
from mofgap.study.methods.names import NEIGHBOURS

SplitKind = Literal["column", "grouped", "without"]
AblationMethod = Literal["balora", "lora", "full"]

METHODS = (
    *("full", "scratch", "lora", "dropout", "balora"),
    *("laplace", "lora-ensemble", "mean", "composition", "published"),
)
"""What predictions come from; their files bear these names, or that of an ablation."""

is_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch
"""Whether a text can be the name of a file or folder anywhere."""

Estimator = Literal[
    "balora-closed-form",
    "balora-weights",
    "balora-rows",
    "balora-distance+neighbours",
    "balora-weights+neighbours",
]
Spread = Literal["epistemic", "total"]

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


@dataclass(frozen=True)
class DataConfig:
    """The table of structures and gaps."""

    table: Path = setting(..., "Parquet table of structures, gaps and splits, or CSV of gaps and splits.")
    cifs: Path | None = setting(None, "Folder or archive of the CIFs that a CSV labels.")
    target: str = setting("gap_ev", "Column of the gaps, eV.")
    level_of_theory: str = setting("unknown", "Of the gaps.")
    citation: str = setting("", "Whom to cite for the table, and its licence.")
    published: Path | None = setting(
        None, "CSV of published predictions of test rows: an identifier, and a column of gaps in eV a method."
    )
    n_val: int | None = setting(None, "At most so many rows of val; null takes all.", least=1)
    n_test: int | None = setting(None, "At most so many rows of test; null takes all.", least=2)
    cache: Path | None = setting(None, "Folder that keeps graphs for other runs too.")
    seed: int = setting(0, "Of grouped splits, and of which rows stay where there are fewer.", least=0)


@dataclass(frozen=True)
class Trainings:
    """How many trainings of each method, with different seeds and data order; 0 leaves a method out."""

    full: int = setting(1, "Every weight of the pretrained encoder is trained.", least=0)
    scratch: int = setting(1, "The same network, from random weights.", least=0)
    lora: int = setting(3, "Low-rank adapters; each gets a last-layer Laplace approximation too.", least=0)
    balora: int = setting(3, "Bayesian low-rank adapters.", least=0)
    dropout: int = setting(1, "Low-rank adapters with dropout, which stays on in prediction.", least=0)
    ensemble: int = setting(
        5, "Members of the ensemble of low-rank adapters, from seed 0; 0 for none.", least=0
    )


@dataclass(frozen=True)
class SplitConfig:
    """Which rows are learnt from, and which are predicted."""

    kind: SplitKind = setting(
        "column",
        "column: as a column of train/val/test says. grouped: of the same sizes, no group on two sides. "
        "without: as the column says, but rows with an element are never learnt from, and are tested beside "
        "the ordinary rows.",
    )
    column: str = setting("split", "Column of train, val and test.")
    group: str = setting("group", "Column of the groups, for a grouped split.")
    n_test: int | None = setting(
        None, "Rows tested, for a grouped split; null takes as many as the column.", least=2
    )
    element: str | None = setting(None, "Symbol of the element left out, for a split without one.")
    trainings: Trainings = section(Trainings)

    def __post_init__(self) -> None:
        if (self.kind == "without") != (self.element is not None):
            raise ConfigurationError("element goes with kind: without, and only with it")
        if self.n_test is not None and self.kind != "grouped":
            raise ConfigurationError("n_test goes with kind: grouped, and only with it")
        if self.element is not None and gemmi.Element(self.element).atomic_number == 0:
            raise ConfigurationError(f"element: {self.element!r} is no element's symbol")


@dataclass(frozen=True)
class Recipe:
    """How a network is built and trained: the same for every method, but for what makes the method."""

    start: Literal["pretrained", "random"] = setting("pretrained", "Weights the encoder starts from.")
    n_train: int | None = setting(None, "Training structures; null takes all.", least=20)
    epochs: int = setting(20, "Passes over them.", least=1)
    batch_atoms: int = setting(2500, "Atoms of a batch.", least=1)
    learning_rate: float = setting(4e-4, "Peak rate of adapters and head.", above=0.0)
    encoder_learning_rate: float = setting(3e-4, "Peak rate of the encoder's own weights.", above=0.0)
    noise_learning_rate: float = setting(1e-2, "Peak rate of the noise network.", above=0.0)
    weight_decay: float = setting(0.01, "Of AdamW.", least=0.0)
    error_weighting: float = setting(
        1.0, "Exponent of the spread that multiplies each likelihood.", least=0.0
    )
    head_hidden: int = setting(256, "Width of the gap head.", least=1)
    rank: int = setting(64, "Rank of the adapters, which are scaled by 2.", least=1)
    blocks: tuple[int, ...] = setting((2, 3, 4), "Blocks of the encoder with adapters, from 0.", least=0)
    modules: tuple[str, ...] | None = setting(
        None, "Linear layers of a block with adapters, by the encoder's names; null takes all that can be."
    )
    dropout: float = setting(0.1, "Rate of the method dropout.", above=0.0, below=1.0)
    noise: Literal["weights", "rows"] = setting("weights", "How BaLoRA's posterior is sampled in training.")
    alpha: Literal["network", "constant"] = setting(
        "network", "Whether BaLoRA's noise depends on the structure, or on the layer alone."
    )
    prior_rate: float = setting(0.1, "Rate p of BaLoRA's prior.", above=0.0, below=1.0)
    kl_weight: float = setting(1.0, "Weight of the divergence of one mean element from the prior.", least=0.0)

    def __post_init__(self) -> None:
        if not self.blocks:
            raise ConfigurationError("blocks: name at least one")
        if self.modules == ():
            raise ConfigurationError("modules: name at least one")


@dataclass(frozen=True)
class Ablation:
    """The recipe with one thing changed; whatever is null stays."""

    method: AblationMethod = setting("balora", "What is trained.")
    split: str = setting("split", "Name of the split.")
    seeds: int = setting(1, "Trainings.", least=1)
    start: Literal["pretrained", "random"] | None = setting(None, "See recipe.")
    n_train: int | None = setting(None, "See recipe.", least=20)
    epochs: int | None = setting(None, "See recipe.", least=1)
    rank: int | None = setting(None, "See recipe.", least=1)
    blocks: tuple[int, ...] | None = setting(None, "See recipe.", least=0)
    modules: tuple[str, ...] | None = setting(None, "See recipe.")
    noise: Literal["weights", "rows"] | None = setting(None, "See recipe.")
    alpha: Literal["network", "constant"] | None = setting(None, "See recipe.")
    prior_rate: float | None = setting(None, "See recipe.", above=0.0, below=1.0)
    kl_weight: float | None = setting(None, "See recipe.", least=0.0)
    error_weighting: float | None = setting(None, "See recipe.", least=0.0)

    def __post_init__(self) -> None:
        if len(self.changes) != 1:
            given = ", ".join(self.changes) or "none"
            raise ConfigurationError(f"an ablation changes one thing of the recipe, not {given}")

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes, by the recipe's names."""
        names = {f.name for f in fields(Recipe)}
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name in names}
        return {name: value for name, value in given.items() if value is not None}

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe so changed."""
        return replace(recipe, **self.changes)


@dataclass(frozen=True)
class PredictionConfig:
    """How much is predicted."""

    samples: tuple[int, ...] = setting(
        (1, 2, 4, 8, 16, 32, 64, 128), "Draws of the sampling methods; the mean, 0, comes by itself.", least=1
    )
    full_curves: int = setting(3, "Seeds that go through all of them; others stop at most_samples.", least=0)
    most_samples: int = setting(32, "Draws of the other seeds, and of ablations.", least=1)
    n_val: int | None = setting(600, "Rows of val that calibration is fitted on; null takes all.", least=25)
    neighbour_correction: bool = setting(
        False, "Also predict with the neighbour correction, every method alike."
    )
    seed: int = setting(0, "Of the draws.", least=0)
    batch_atoms: int = setting(4000, "Atoms predicted at once.", least=1)

    def __post_init__(self) -> None:
        if not self.samples:
            raise ConfigurationError("samples: name at least one number of draws")
        if list(self.samples) != sorted(set(self.samples)):
            raise ConfigurationError(f"samples: expected rising numbers, got {list(self.samples)}")


@dataclass(frozen=True)
class JudgementConfig:
    """How the claims are judged; fixed before anything is trained."""

    estimator: Estimator = setting("balora-weights", "BaLoRA's spread that the headline verdicts are about.")
    spread: Spread = setting("epistemic", "Which spread: the posterior's, or with the likelihood's.")
    margin_ev: float = setting(
        0.005, "A difference of mean absolute errors that does not matter, eV.", above=0.0
    )
    level: float = setting(0.95, "Of the bootstrap intervals.", above=0.0, below=1.0)
    n_draws: int = setting(1000, "Resamplings of the bootstrap.", least=10)
    n_bins: int = setting(10, "Bins of the expected normalised calibration error.", least=1)
    seed: int = setting(0, "Of the bootstrap.", least=0)


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how fast."""

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "Where to train and predict.")
    devices: int = setting(1, "Devices of one training on each node, a process each.", least=1)
    nodes: int = setting(1, "Nodes of one training; more than one need a scheduler.", least=1)
    strategy: str = setting("auto", "How they share the work, in Lightning's words, such as ddp.")
    precision: Literal["32-true", "bf16-mixed"] = setting("32-true", "Of training.")

    @property
    def processes(self) -> int:
        """Of one training, on all nodes together."""
        return self.devices * self.nodes


@dataclass(frozen=True)
class ComparisonConfig:
    """A comparison of methods: trained on the same rows, from the same encoder, for the same passes."""

    data: DataConfig = setting(...)
    encoder: str = setting("crystal-transformer", "Pretrained encoder: a shipped name, or a folder.")
    splits: dict[str, SplitConfig] = field(
        default_factory=lambda: {"split": SplitConfig()}, metadata={"doc": "Splits by name."}
    )
    recipe: Recipe = section(Recipe)
    ablations: dict[str, Ablation] = field(
        default_factory=dict, metadata={"doc": "Trainings with one thing changed, by name."}
    )
    prediction: PredictionConfig = section(PredictionConfig)
    judgement: JudgementConfig = section(JudgementConfig)
    compute: ComputeConfig = section(ComputeConfig)

    def __post_init__(self) -> None:
        if not self.splits:
            raise ConfigurationError("splits: name at least one")
        for section_name, names in (("splits", self.splits), ("ablations", self.ablations)):
            for name in names:
                if not is_name(name):
                    expected = "names of letters, digits, dots, dashes"
                    raise ConfigurationError(f"{section_name}: expected {expected}, got {name!r}")
        estimator = self.judgement.estimator
        if estimator.endswith(NEIGHBOURS) and not self.prediction.neighbour_correction:
            raise ConfigurationError(
                f"judgement.estimator: {estimator} needs prediction.neighbour_correction"
            )
        for name, ablation in self.ablations.items():
            if name in METHODS:
                raise ConfigurationError(f"ablations: {name!r} is the name of a method: choose another")
            if ablation.split not in self.splits:
                raise ConfigurationError(f"ablations.{name}.split: no split {ablation.split!r} is defined")
            ablation.applied(self.recipe)
