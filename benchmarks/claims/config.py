"""Settings of the protocol, the same for every modality, and of each modality's data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from mofgap.configuration import ConfigurationError, schema
from mofgap.shipped import DEFAULT_ENCODER

Modality = Literal["language", "vision", "mofs"]
MofSplit = Literal["public", "grouped"]


@schema
class LanguageConfig:
    """Reasoning tasks in plain text."""

    network: Literal["all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"] = Field(
        "all-MiniLM-L6-v2", description="Pretrained sentence encoder or decoder, which a package carries."
    )

    tasks: tuple[str, ...] = Field(
        ("circuit_logic", "syllogism", "knights_knaves"), description="Tasks, by the names of reasoning-gym."
    )
    block: int = Field(
        5, description="First block that is adapted, counted from 0; earlier ones run once.", ge=0
    )
    n_train: int = Field(1000, description="Training inputs of a task.", ge=2)
    n_val: int = Field(300, description="Inputs to choose hyperparameters by.", ge=2)
    n_test: int = Field(500, description="Inputs to judge by.", ge=2)
    n_shifted: int = Field(250, description="Inputs of each shifted set.", ge=2)
    seed: int = Field(0, description="Of the generated inputs.", ge=0)


@schema
class VisionConfig:
    """Images of packages for pretrained networks."""

    emoji: Path | None = Field(
        None,
        description="Folder node_modules with npm's emoji-datasource-google and emoji-datasource-twitter; "
        "null leaves emoji out.",
    )
    image_size: int = Field(
        64, description="Height and width of emoji for EfficientNet.", ge=32, multiple_of=32
    )
    late_blocks: int = Field(
        2, description="Blocks of EfficientNet that are adapted, from the end.", ge=1, le=4
    )
    late_layers: int = Field(2, description="Blocks of the transformer that are adapted.", ge=1, le=4)
    n_train: int = Field(500, description="Training images of each task.", ge=1)
    n_val: int = Field(200, description="Images to choose hyperparameters by.", ge=1)
    n_test: int = Field(1800, description="Images to judge by, at most.", ge=1)
    n_shifted: int = Field(200, description="Images of each kind that is out of distribution.", ge=1)
    passes: int = Field(8, description="Of the transformer's pretraining over its digits.", ge=1)
    seed: int = Field(0, description="Of splits, corruptions and the pretraining.", ge=0)
    pretrained: bool = Field(True, description="False takes random weights everywhere, to compare.")
    cache: Path = Field(
        Path("runs/claims-vision"), description="Folder that keeps the pretrained transformer."
    )


@schema
class MofConfig:
    """Band gaps of metal-organic frameworks, from a table of `mofgap.datasets.qmof`."""

    table: Path = Field(Path("qmof.parquet"), description="Parquet table of structures, splits and gaps.")
    encoder: str = Field(DEFAULT_ENCODER, description="Pretrained encoder, a name or a folder.")
    cache: Path = Field(
        Path("runs/claims-mofs/vectors"), description="Folder that keeps the vectors of structures."
    )
    splits: tuple[MofSplit, ...] = Field(("public", "grouped"), description="Splits; a task each.")
    network: Literal["perceptron", "transformer"] = Field(
        "perceptron",
        description="What is adapted: the gap network, or the transformer's last block and the gap network.",
    )
    neighbours: bool = Field(True, description="Whether to estimate with the neighbour correction too.")
    n_val: int = Field(800, description="Public val rows to choose hyperparameters by.", ge=2)
    n_test: int = Field(1229, description="Structures of the grouped split to judge by.", ge=2)
    n_shifted: int = Field(400, description="Structures of each shifted set, at most.", ge=2)
    withheld: tuple[str, ...] = Field(
        ("Zr", "In", "Cd", "Sc", "Eu", "Rh", "Mo"),
        description="Elements that no training of the grouped split sees.",
    )
    displacement_angstrom: float = Field(
        0.1, description="Standard deviation of a coordinate of displaced atoms.", gt=0
    )
    n_components: int = Field(
        256, description="Principal components of a structure's vector that the network gets.", ge=1
    )
    width: int = Field(128, description="Of the network's hidden layers.", ge=1)
    n_layers: int = Field(3, description="Hidden layers of the network.", ge=1)
    passes: int = Field(15, description="Of the network's pretraining over the training structures.", ge=1)
    pretrained: bool = Field(True, description="False takes random weights, to compare.")
    seed: int = Field(0, description="Of splits, displacements and the pretraining.", ge=0)


@schema
class TrainingConfig:
    """How every method is trained, and what is tried for each on the validation inputs.

    A try takes the next rank, the next rate and the next of the method's own constant, each from the first
    again after the last. All methods have as many tries. Where `every_constant` is set, more tries follow:
    the other constants with the rank and rate of the best try.
    """

    epochs: int = Field(6, description="Passes over the training inputs.", ge=1)
    batch: int = Field(16, description="Inputs a step.", ge=1)
    clip: float | None = Field(None, description="Largest norm of the gradient; null for any.", gt=0)
    warm_up: float = Field(0.1, description="Share of the steps in which the rate rises.", ge=0, lt=1)
    tries: int = Field(5, description="Choices of hyperparameters that are tried for each method.", ge=1)
    every_constant: bool = Field(
        False, description="Whether to try every constant of a method with its best rank and rate."
    )
    tried_on: int | None = Field(
        None, description="Training inputs of a try, evenly spaced; null for all.", ge=1
    )
    ranks: tuple[int, ...] = Field((4, 8, 16), description="Ranks of adapters.")
    rates: tuple[float, ...] = Field((2e-3, 6e-3), description="Peak learning rates of adapters and head.")
    full_rates: tuple[float, ...] = Field(
        (1e-4, 2e-4, 3e-4, 5e-4, 1e-3), description="Peak learning rates of full fine-tuning."
    )
    betas: tuple[float, ...] = Field((1e-4, 1e-3, 1e-2, 0.1, 1.0), description="Weights of the divergence.")
    dropouts: tuple[float, ...] = Field((0.05, 0.1, 0.2, 0.3), description="Rates of MC dropout.")
    tuning_samples: int = Field(8, description="Samples for the likelihood of validation inputs.", ge=2)


@schema
class JudgementConfig:
    """How claims are judged."""

    level: float = Field(0.95, description="Nominal coverage of the intervals.", gt=0, lt=1)
    n_draws: int = Field(1000, description="Resamplings of trainings and test inputs.", ge=10)
    seed: int = Field(0, description="Of the resamplings.", ge=0)
    margin: float = Field(0.01, description="Loss of accuracy, or error in eV, that counts as none.", ge=0)


@schema
class ClaimsConfig:
    """A comparison of BaLoRA with its rivals."""

    name: str = Field(description="Of the comparison.")
    modality: Modality = Field(description="What the inputs are.")
    language: LanguageConfig | None = Field(None, description="The data, where the modality is language.")
    vision: VisionConfig | None = Field(None, description="The data, where the modality is vision.")
    mofs: MofConfig | None = Field(None, description="The data, where the modality is mofs.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="Training of every method.")
    methods: tuple[str, ...] = Field(
        ("lora", "balora", "balora-rows", "full", "dropout", "blob"), description="Methods to train."
    )
    trainings: int = Field(4, description="Trainings of each method.", ge=1)
    members: int = Field(5, description="LoRA trainings of an ensemble.", ge=2)
    groups: int = Field(
        4, description="Ensembles of different members; trainings of LoRA are members x groups.", ge=1
    )
    samples: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32, 64, 128), description="Numbers of samples, ascending."
    )
    shifted_samples: int = Field(16, description="Most samples of shifted inputs.", ge=1)
    at_once: int = Field(250, description="Inputs that are predicted at once.", ge=1)
    judgement: JudgementConfig = Field(default_factory=JudgementConfig, description="How claims are judged.")

    def __post_init__(self) -> None:
        """Refuse a modality without its section.

        Raises:
            ConfigurationError: The section of the ``modality`` is missing.
        """
        if getattr(self, self.modality) is None:
            raise ConfigurationError(f"the section {self.modality} is missing", key=self.modality)
