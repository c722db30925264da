"""The settings of a training, each declared once.

The options of ``mofgap train`` and ``mofgap pretrain``, the recipe, the pretraining and the compute of a run,
and the arguments of `mofgap.training` come from here. ``--help`` imports this module, so it imports nothing
heavy.
"""

from __future__ import annotations

from pydantic import Field, NonNegativeInt

from mofgap.choices import MAX_SEED, Adaptation, Alpha, Device, Noise, Precision, Strategy
from mofgap.configuration import ConfigurationError, part, schema
from mofgap.encoders.registry import DEFAULT_ARCHITECTURE, ENCODERS, registered

FROM_A_MODEL = {"learning_rate": 1e-3, "kl_weight": 0.1}
"""Defaults of ``mofgap train --from``: few labels of a model that knows the structures already need a faster
rate and a looser posterior."""

FEW_LABELS = 500
"""With fewer labels for another level of theory none are spared for validation: error bars come from
cross-fitting, at the price of five more trainings."""

N_FOLDS = 5
"""Models of cross-fitting, each of which leaves a part of the training structures out."""

MIN_FOLD_ROWS = 10
"""Training rows from which on errors are cross-fitted."""

MIN_CORRECTION_ROWS = 1000
"""With fewer training rows neighbours are too far for a neighbour correction."""


@schema
class FinetuneConfig:
    """How the weights of a gap model are trained."""

    epochs: int = Field(
        20,
        description="Passes over the training structures, at most. 0, with --from, keeps the weights and "
        "fits only neighbour correction, error bars and novelty.",
        ge=0,
    )
    batch_atoms: int = Field(2500, description="Size of a batch.", ge=1, json_schema_extra={"unit": "atoms"})
    learning_rate: float = Field(
        4e-4,
        description="Peak learning rate of adapters and head; linear warm-up, cosine decay to zero.",
        ge=0.0,
    )
    encoder_learning_rate: float = Field(
        3e-4, description="Peak learning rate of the encoder's own weights, where they are trained.", ge=0.0
    )
    noise_learning_rate: float = Field(
        1e-2,
        description="Peak learning rate of the noise network. That of the adapters would hardly change it.",
        ge=0.0,
    )
    weight_decay: float = Field(0.01, description="Weight decay of AdamW.", ge=0.0)
    warmup: float = Field(
        0.05, description="Share of the steps over which the learning rates rise.", ge=0.0, le=1.0
    )
    kl_weight: float = Field(
        1.0,
        description="Weight of the divergence of the posterior from the prior, as a mean over elements of A.",
        ge=0.0,
    )
    kl_warmup: float = Field(
        0.3, description="Share of the steps over which kl_weight rises from zero.", ge=0.0, le=1.0
    )
    noise: Noise = Field("weights", description="How BaLoRA's posterior is sampled in training.")
    alpha: Alpha = Field(
        "network", description="Whether BaLoRA's noise depends on the structure, or only on the layer."
    )
    dropout: float = Field(
        0.0, description="Rate of dropout before the adapters, for the method lora.", ge=0.0, lt=1.0
    )
    error_weighting: float = Field(
        1.0,
        description="Exponent of the predicted spread that weights each likelihood (Seitzer et al., arXiv "
        "2203.09168). 0 is the plain likelihood; with 1 the mean learns from absolute errors.",
        ge=0.0,
    )
    patience: int | None = Field(
        None,
        description="Stop after so many epochs without a better validation error. By default never.",
        ge=1,
    )
    unfreeze: bool = Field(
        False,
        description="Train the encoder's weights without adapters too. Novelty then refers only to the "
        "structures of this training.",
    )
    neighbour_correction: bool = Field(
        True,
        description=f"Fit the neighbour correction, which needs {MIN_CORRECTION_ROWS} training structures.",
    )
    seed: int = Field(0, description="Seed of initialisation, order and noise.", ge=0, le=MAX_SEED)


@schema
class TrainingConfig(FinetuneConfig):
    """What a gap model is made of besides its encoder, and how it is trained.

    A training that goes on from a gap model takes that model as it is made, and reads `finetuning` alone.
    """

    method: Adaptation = Field(
        "balora", description="Bayesian adapters, plain adapters, or all weights of the encoder."
    )
    blocks: tuple[NonNegativeInt, ...] = Field(
        (2, 3, 4),
        description="Blocks of the encoder that get adapters, counted from 0. Blocks below are computed "
        "once.",
    )
    modules: tuple[str, ...] | None = Field(
        None,
        description="Linear layers of a block that get adapters, by the encoder's names. By default all that "
        "can.",
    )
    rank: int = Field(64, description="Rank of the adapters, which are scaled by 2.", ge=1)
    head_hidden: int = Field(256, description="Width of the gap head.", ge=1)
    prior_rate: float = Field(
        0.1, description="Rate p of BaLoRA's prior, whose variance is p / (1 - p) times A².", gt=0.0, lt=1.0
    )

    def __post_init__(self) -> None:
        for name in ("blocks", "modules"):
            if getattr(self, name) == ():
                raise ConfigurationError("name at least one", key=name)

    @property
    def finetuning(self) -> FinetuneConfig:
        """How the weights are trained, without what the model is made of."""
        return part(FinetuneConfig, vars(self))


NETWORK = ("method", "blocks", "modules", "rank", "head_hidden", "prior_rate")
"""Settings of `TrainingConfig` that a gap model brings itself where a training goes on from one."""


@schema
class PretrainConfig:
    """How an encoder is pretrained on per-atom targets."""

    epochs: int = Field(8, description="Passes over the training structures.", ge=1)
    batch_atoms: int = Field(2500, description="Size of a batch.", ge=1, json_schema_extra={"unit": "atoms"})
    learning_rate: float = Field(
        1.5e-3, description="Peak learning rate; linear warm-up, cosine decay to zero.", ge=0.0
    )
    weight_decay: float = Field(0.01, description="Weight decay of AdamW.", ge=0.0)
    warmup: float = Field(
        0.05, description="Share of the steps over which the learning rate rises.", ge=0.0, le=1.0
    )
    mask_fraction: float = Field(0.1, description="Share of atoms whose element is hidden.", ge=0.0, le=1.0)
    mask_weight: float = Field(
        0.1, description="Weight of the masked-element loss relative to the regression losses.", ge=0.0
    )
    seed: int = Field(0, description="Seed of initialisation, order and masks.", ge=0, le=MAX_SEED)


@schema
class PretrainingConfig(PretrainConfig):
    """Which encoder is pretrained, and how."""

    architecture: str = Field(
        DEFAULT_ARCHITECTURE, description=f"Encoder to pretrain: {', '.join(ENCODERS)}."
    )
    blocks: int | None = Field(
        None, description="Blocks of the encoder. By default as its architecture says.", ge=1
    )
    width: int | None = Field(
        None, description="Features of an atom. By default as its architecture says.", ge=8
    )

    def __post_init__(self) -> None:
        try:
            registered(self.architecture)
        except ValueError as error:
            raise ConfigurationError(str(error), key="architecture") from error

    @property
    def encoder_settings(self) -> dict[str, int]:
        """Settings of the encoder that were given, by its own names."""
        asked = {"n_blocks": self.blocks, "width": self.width}
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def training(self) -> PretrainConfig:
        """How the weights are trained, without what the encoder is made of."""
        return part(PretrainConfig, vars(self))


@schema
class ComputeConfig:
    """What a training runs on."""

    device: Device = Field("auto", description="Where to train.")
    devices: int = Field(
        1, description="Devices on each node, one process each. A step uses a batch of each.", ge=1
    )
    nodes: int = Field(1, description="Nodes; more than one need a scheduler such as SLURM.", ge=1)
    strategy: Strategy = Field("auto", description="How devices share the work: a strategy of Lightning.")
    precision: Precision = Field(
        "32-true", description="Arithmetic of the training; bf16-mixed is faster where it is supported."
    )

    @property
    def processes(self) -> int:
        """Number of processes on all nodes together."""
        return self.devices * self.nodes
