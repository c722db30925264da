"""The pretrained encoder of a run, and what it makes of every structure before any training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mofgap.configuration import ConfigurationError
from mofgap.crystals.graph import GraphConfig
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig, adapter_targets
from mofgap.gap.folder import encoder_weights
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.study.config import ComparisonConfig, Recipe
from mofgap.study.dataset import Dataset
from mofgap.study.layout import Layout
from mofgap.study.members import first_blocks, members
from mofgap.training.encoder_folder import DESCRIPTION, WEIGHTS, find_encoder
from mofgap.training.finetune import frozen_features
from mofgap.whole_file import whole_file


def encode(config: ComparisonConfig, run: Path, dataset: Dataset) -> None:
    """Copy the named encoder into the run, and compute its features of every structure.

    There is a file of features for each first adapted block, which all trainings that share it read.

    Raises:
        ModelError: There is no encoder of that name, or it is damaged.
    """
    layout = Layout(run)
    weights, size = find_encoder(config.encoder)
    for source in (weights, weights.with_name(DESCRIPTION)):
        with whole_file(layout.encoder / source.name) as partial:
            shutil.copyfile(source, partial)
    for block in first_blocks(config):
        torch.manual_seed(0)
        targets = adapter_targets([block], config.recipe.modules)
        model = GapModel(GapModelConfig("lora", encoder_settings=size, target_modules=targets))
        encoder_weights(layout.encoder / WEIGHTS, model)
        found = frozen_features(model.eval(), dataset.store, config.prediction.batch_atoms)
        with whole_file(layout.features(block)) as partial:
            save_file({"features": found}, partial)


def settings(config: ComparisonConfig) -> dict[str, Any]:
    """The size of the encoder that a configuration names."""
    return find_encoder(config.encoder)[1]


def graph_config(config: ComparisonConfig) -> GraphConfig:
    """The graph that this encoder expects."""
    return CrystalTransformerConfig(**settings(config)).graph


def targets_of(recipe: Recipe, size: dict[str, Any]) -> tuple[str, ...]:
    """Patterns of the linear layers that a recipe adapts.

    Raises:
        ConfigurationError: The encoder has no such block.
    """
    n_blocks = CrystalTransformerConfig(**size).n_blocks
    if max(recipe.blocks) >= n_blocks:
        raise ConfigurationError(
            f"recipe.blocks: the encoder has blocks 0 to {n_blocks - 1}, not {max(recipe.blocks)}"
        )
    return adapter_targets(sorted(recipe.blocks), recipe.modules)


def check_blocks(config: ComparisonConfig) -> None:
    """Refuse what the encoder has no blocks for before anything is trained.

    Raises:
        ConfigurationError: The recipe, or an ablation, adapts a block that is not there.
    """
    size = settings(config)
    for each in members(config):
        try:
            targets_of(each.recipe, size)
        except ConfigurationError as error:
            where = f"ablations.{each.variant}: " if each.variant else ""
            raise ConfigurationError(f"{where}{error}") from error


def features(run: Path, recipe: Recipe) -> Tensor:
    """(n, n_features) pooled features of the pretrained encoder below a recipe's first adapted block."""
    return load_file(Layout(run).features(min(recipe.blocks)))["features"]
