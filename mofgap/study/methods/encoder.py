"""The pretrained encoder of a run, and what it makes of every structure before any training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mofgap.configuration import ConfigurationError, digest
from mofgap.crystals.graph import GraphConfig
from mofgap.encoders.crystal_transformer import CrystalTransformerConfig, adapter_targets
from mofgap.gap.folder import encoder_weights
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.study.config import ComparisonConfig, Recipe
from mofgap.study.dataset import Dataset
from mofgap.study.layout import Layout, read_json
from mofgap.study.members import members
from mofgap.training.encoder_folder import DESCRIPTION, WEIGHTS, find_encoder
from mofgap.training.finetune import frozen_features
from mofgap.whole_file import whole_file

FEATURES_VERSION = 2
"""Rises when the same encoder makes other features of the same structures."""


def take(config: ComparisonConfig, run: Path) -> Path:
    """Copy the named encoder into the run, unless it lies there; returns its weights.

    Raises:
        ModelError: There is none of that name, or it is damaged.
    """
    weights, _ = find_encoder(config.encoder)
    folder = Layout(run).encoder
    for source in (
        weights,
        weights.with_name(DESCRIPTION),
    ):  # the description last: it makes the folder whole
        target = folder / source.name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            with whole_file(target) as partial:
                shutil.copyfile(source, partial)
    return folder / WEIGHTS


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


def features_of(run: Path, recipe: Recipe) -> tuple[str, int]:
    """What decides the frozen features of a structure: the encoder's sha256, and the first adapted block."""
    return str(read_json(Layout(run).encoder / DESCRIPTION).get("sha256")), min(recipe.blocks)


def features(config: ComparisonConfig, run: Path, dataset: Dataset, recipe: Recipe) -> Tensor:
    """(n, n_features) pooled features of the pretrained encoder below a recipe's first adapted block.

    Computed once for all trainings that share that block, and kept in the run's dataset.
    """
    layout = Layout(run)
    size = settings(config)
    weights = layout.encoder / WEIGHTS
    content = dataset.content(range(len(dataset.frame)))
    key = digest(FEATURES_VERSION, *features_of(run, recipe), content)[:16]
    path = layout.dataset / f"features-{key}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        targets = targets_of(recipe, size)
        model = GapModel(GapModelConfig("lora", encoder_settings=size, target_modules=targets))
        encoder_weights(weights, model)
        found = frozen_features(model.eval(), dataset.store, config.prediction.batch_atoms)
        with whole_file(path) as partial:
            save_file({"features": found}, partial)
    return load_file(path)["features"]
