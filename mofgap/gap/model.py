"""The band-gap model: encoder, adapters, head, normaliser and neighbour correction in one module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from mofgap.balora import AdaptedLayer, BaLoRA, BaLoRAConfig, NoiseNetwork
from mofgap.balora.adapt import targets
from mofgap.choices import ADAPTATIONS, Adaptation, check_choice
from mofgap.crystals.graph import CrystalGraph, GraphConfig
from mofgap.encoders.encoder import Encoder, FrozenOutputs
from mofgap.encoders.registry import DEFAULT_ARCHITECTURE, build_encoder, encoder_class, encoder_config
from mofgap.gap.correction import NeighbourCorrection
from mofgap.gap.head import SOFTNESS, GapHead, pool


@dataclass(frozen=True)
class GapModelConfig:
    """What a gap model is made of, as its folder holds it.

    The defaults are those of folders that lack a field; a training takes its own from
    `mofgap.training.config`.

    Attributes:
        method: ``balora`` (Bayesian low-rank adapters), ``lora`` (the same without noise) or ``full``
            (every weight of the encoder is trained).
        encoder: Name of the encoder in the registry.
        encoder_settings: Its settings.
        head_hidden: Width of the gap head.
        target_modules: Linear layers of the encoder that are adapted; by default all that can be.
        rank: Rank of the adapters.
        lora_alpha: Adapters are scaled by ``lora_alpha / rank``.
        prior_rate: Rate p of the prior; its variance factor is p / (1 - p).
        noise_hidden: Hidden width of the noise network.
        substitutes: Elements that were never seen, and shares of those that they are read as.
        correction_size: Training structures of the neighbour correction; 0 for no correction.
        correction_sketch: Length of the sketches of gradients that it places them by; 0 for the head's
            features alone.
        correction_softness: Softness of `pool` for the gradients of these sketches.
        members: What the other networks of an ensemble are made of: the mean of all gaps is predicted. They
            were trained by themselves, err elsewhere, and have no spread. Empty for one network.
    """

    method: Adaptation = "balora"
    encoder: str = DEFAULT_ARCHITECTURE
    encoder_settings: Mapping[str, Any] = field(default_factory=dict)
    head_hidden: int = 128
    target_modules: tuple[str, ...] = ()
    rank: int = 8
    lora_alpha: float = 16.0
    prior_rate: float = 0.1
    noise_hidden: int = 64
    correction_size: int = 0
    correction_sketch: int = 0
    correction_softness: float = 0.0
    substitutes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    members: tuple[GapModelConfig, ...] = ()

    def __post_init__(self) -> None:
        check_choice("method", self.method, ADAPTATIONS)
        targets = tuple(self.target_modules)
        if not targets:
            config = encoder_config(self.encoder, self.encoder_settings)
            targets = encoder_class(self.encoder).adapter_targets(config)
        object.__setattr__(self, "target_modules", targets)
        made_of = (m if isinstance(m, GapModelConfig) else GapModelConfig(**m) for m in self.members)
        object.__setattr__(self, "members", tuple(made_of))

    @property
    def balora(self) -> BaLoRAConfig:
        """The adapters' own configuration."""
        return BaLoRAConfig(
            target_modules=self.target_modules,
            r=self.rank,
            lora_alpha=self.lora_alpha,
            prior_rate=self.prior_rate,
            noise_hidden=self.noise_hidden,
        )


class GapModel(nn.Module):
    """Predicts gaps in eV from batches of crystal graphs.

    Args:
        config: What it is made of.

    Attributes:
        backbone: The pretrained encoder, for ``lora`` and ``balora`` inside its adapters.
        layers: The adapted layers by name; empty for ``full``.
        head: Pooling and the gap head.
        correction: The neighbour correction, once it is fitted; None without.
        members: The other networks of an ensemble; empty for one network.
        gap_mean_ev: Mean of the training gaps.
        gap_std_ev: Their standard deviation.
    """

    gap_mean_ev: Tensor
    gap_std_ev: Tensor

    def __init__(self, config: GapModelConfig) -> None:
        super().__init__()
        self.config = config
        encoder = build_encoder(config.encoder, config.encoder_settings)
        self.head = GapHead(encoder.n_outputs * encoder.width, config.head_hidden)
        self.backbone: Encoder | BaLoRA = encoder
        self.layers: dict[str, AdaptedLayer] = {}
        if config.method != "full":
            encoder.freeze_below(targets(encoder, config.target_modules))
            n_features = 3 * encoder.n_frozen * encoder.width if config.method == "balora" else 0
            self.backbone = BaLoRA(encoder, config.balora, n_features)
            self.layers = self.backbone.layers
        self.members = nn.ModuleList(GapModel(member) for member in config.members)
        self.correction: NeighbourCorrection | None = None
        if config.correction_size:
            n_pooled = 3 * sum(made_of.head_hidden for made_of in (config, *config.members))
            self.correction = NeighbourCorrection(config.correction_size, n_pooled, config.correction_sketch)
        self.register_buffer("gap_mean_ev", torch.tensor(0.0))
        self.register_buffer("gap_std_ev", torch.tensor(1.0))
        self.float()  # whatever torch's default is

    @property
    def encoder(self) -> Encoder:
        """The pretrained encoder, adapted in place for ``lora`` and ``balora``."""
        inside = self.backbone.model if isinstance(self.backbone, BaLoRA) else self.backbone
        assert isinstance(inside, Encoder)
        return inside

    @property
    def noise_network(self) -> NoiseNetwork | None:
        """The network that computes alpha(X); None unless the method is ``balora``."""
        return self.backbone.noise_network if isinstance(self.backbone, BaLoRA) else None

    @property
    def graph_config(self) -> GraphConfig:
        """The graph the encoder expects."""
        return self.encoder.graph_config

    @property
    def softness(self) -> float:
        """Softness of the gradients of `pool`; with a neighbour correction, that of its fit."""
        return SOFTNESS if self.correction is None else self.config.correction_softness

    @property
    def device(self) -> torch.device:
        """The device that the model is on."""
        return self.gap_mean_ev.device

    @torch.no_grad()
    def frozen_features(self, batch: CrystalGraph, frozen: FrozenOutputs | None = None) -> Tensor:
        """Pooled features of the part of the encoder below all adapters: what alpha(X) and novelty look at.

        Args:
            batch: The structures.
            frozen: What ``encoder.run_frozen`` gave for it, or None.

        Returns:
            (n_graphs, 3 n_frozen width).
        """
        outputs = (self.encoder.run_frozen(batch) if frozen is None else frozen).outputs
        return pool(torch.cat(outputs, dim=1).float(), batch.structure_idx, batch.n_graphs, share=batch.share)

    def noise_factors(self, features: Tensor) -> Tensor:
        """(n_graphs, n_layers) alpha(X) of pooled frozen features; ones for LoRA, no column for ``full``."""
        if isinstance(self.backbone, BaLoRA):
            return self.backbone.alpha(features)
        return features.new_empty(len(features), 0)

    def forward(self, batch: CrystalGraph, frozen: FrozenOutputs | None = None) -> tuple[Tensor, Tensor]:
        """Gap and aleatoric std of this network alone, both in eV and (n_graphs,).

        Neither other members nor neighbour correction have a part in it. It is the mean of the posterior, or
        a draw from it inside ``mofgap.balora.sampling``.
        """
        return self.from_pooled(self.pooled(batch, frozen))

    def from_pooled(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Gap and aleatoric std, both in eV and (n_graphs,), from what `pooled` gave."""
        mean, log_std = self.head.from_pooled(pooled)
        return self.gap_mean_ev + self.gap_std_ev * mean, self.gap_std_ev * log_std.exp()

    def pooled(
        self, batch: CrystalGraph, frozen: FrozenOutputs | None = None, softness: float = 0.0
    ) -> Tensor:
        """(n_graphs, 3 head_hidden) pooled activations of the head; `pool` says what ``softness`` does."""
        activations = self.head.activations(self.backbone(batch, frozen))
        return pool(activations, batch.structure_idx, batch.n_graphs, softness, batch.share)

    def unadapted(self) -> list[nn.Parameter]:
        """The encoder's weights without adapters: for ``full`` all of them."""
        adapted = {id(p) for layer in self.layers.values() for p in layer.parameters()}
        return [p for p in self.encoder.parameters() if id(p) not in adapted]

    @torch.no_grad()
    def fit_correction(self, pooled: Tensor, gradients: Tensor | None, residual_ev: Tensor) -> None:
        """Fit the neighbour correction to the training structures, in place of an earlier one.

        Args:
            pooled: (n_structures, n_pooled) what `pooled` gave for them, then what that of each other member
                gave.
            gradients: (n_structures, n_sketch) their places in the posterior's geometry, by gradients of
                `softness`, eV; None for the head's features alone.
            residual_ev: (n_structures,) label minus gap of each.

        Raises:
            ValueError: If the number of training structures is not above
                `mofgap.gap.correction.N_NEIGHBOURS`.
        """
        n_sketch = 0 if gradients is None else gradients.shape[1]
        n_structures = len(residual_ev)
        correction = NeighbourCorrection(n_structures, pooled.shape[1], n_sketch).to(pooled.device)
        correction.fit(pooled, residual_ev, gradients)
        self.config = replace(
            self.config,
            correction_size=n_structures,
            correction_sketch=n_sketch,
            correction_softness=SOFTNESS if n_sketch else 0.0,
        )
        self.correction = correction

    def add_member(self, network: GapModel) -> None:
        """Predict the mean with another network's gap, which is kept in half precision on disk.

        The neighbour correction is dropped, since its residuals are those of fewer networks.

        Raises:
            ValueError: If ``network`` has members or a neighbour correction of its own, or reads other
                graphs.
        """
        if network.members or network.correction is not None:
            raise ValueError("a member of an ensemble has neither other members nor a neighbour correction")
        if network.graph_config != self.graph_config:
            raise ValueError("the network reads other graphs than the first of the ensemble")
        self.drop_correction()
        self.config = replace(self.config, members=(*self.config.members, network.config))
        # Rounded as it is stored, but for buffers that are not.
        network.load_state_dict({name: value.half() for name, value in network.state_dict().items()})
        self.members.append(network)

    def drop_members(self) -> None:
        """Predict with one network, and without the neighbour correction of several."""
        if self.members:
            self.drop_correction()
            self.config = replace(self.config, members=())
            self.members = nn.ModuleList()

    def drop_correction(self) -> None:
        """Predict without the neighbour correction."""
        self.config = replace(self.config, correction_size=0, correction_sketch=0, correction_softness=0.0)
        self.correction = None
