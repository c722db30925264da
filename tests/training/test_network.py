from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.configuration import ConfigurationError
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
from mofgap.gap.model import GapModelConfig
from mofgap.training.config import TrainingConfig
from mofgap.training.encoder_folder import PretrainedEncoder
from mofgap.training.network import network


def test_a_network_is_what_its_settings_say(tiny_encoder: CrystalTransformerConfig) -> None:
    found = PretrainedEncoder(Path("encoder.safetensors"), "crystal-transformer", tiny_encoder)
    config = TrainingConfig(
        method="lora", blocks=(0,), modules=("query", "out"), rank=3, head_hidden=5, prior_rate=0.2
    )
    assert network(config, found) == GapModelConfig(
        method="lora",
        encoder="crystal-transformer",
        encoder_settings=found.settings,
        head_hidden=5,
        target_modules=(r"blocks\.(0)\.(query|out)",),
        rank=3,
        lora_alpha=6.0,
        prior_rate=0.2,
    )
    for wrong, key in (({"blocks": (1,)}, "blocks"), ({"blocks": (0,), "modules": ("quary",)}, "modules")):
        with pytest.raises(ConfigurationError, match=rf"^{key}: .*encoder"):
            network(TrainingConfig(**wrong), found)  # type: ignore[arg-type]
