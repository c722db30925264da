"""The configuration of a gap model on a pretrained encoder."""

from __future__ import annotations

from mofgap.configuration import ConfigurationError
from mofgap.gap.model import GapModelConfig
from mofgap.training.config import TrainingConfig
from mofgap.training.encoder_folder import PretrainedEncoder

ADAPTER_SCALE = 2.0
"""Adapters are scaled by it, whatever their rank."""


def network(config: TrainingConfig, found: PretrainedEncoder) -> GapModelConfig:
    """The configuration of a network on an encoder, from settings.

    Raises:
        ConfigurationError: If the setting ``blocks`` or ``modules`` names a block or layer that the encoder
            lacks. The message lists those that it has.
    """
    is_adapted = config.method != "full"
    for key in ("blocks", "modules") if is_adapted else ():
        try:
            found.adapter_targets(**{key: getattr(config, key)})
        except ValueError as error:
            raise ConfigurationError(str(error), key=key) from error
    return GapModelConfig(
        method=config.method,
        encoder=found.architecture,
        encoder_settings=found.settings,
        head_hidden=config.head_hidden,
        target_modules=found.adapter_targets(config.blocks, config.modules) if is_adapted else (),
        rank=config.rank,
        lora_alpha=ADAPTER_SCALE * config.rank,
        prior_rate=config.prior_rate,
        substitutes=found.substitutes,
    )
