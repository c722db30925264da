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
from mofgap.gap.folder import encoder_weights
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.study.config import ComparisonConfig, Recipe
from mofgap.study.dataset import Dataset
from mofgap.study.layout import Layout, read_json
from mofgap.study.members import members
from mofgap.training.encoder_folder import DESCRIPTION, WEIGHTS, PretrainedEncoder, find_encoder
from mofgap.training.finetune import frozen_features
from mofgap.whole_file import whole_file

FEATURES_VERSION = 2
"""Rises when the same encoder makes other features of the same structures."""


def take(config: ComparisonConfig, run: Path) -> Path:
    """Copy the named encoder into the run, unless it lies there; returns its weights.

    Raises:
        ModelError: There is none of that name, or it is damaged.
    """
    weights = find_encoder(config.encoder).weights
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


def graph_config(config: ComparisonConfig) -> GraphConfig:
    """The graph that the encoder of a configuration expects."""
    return find_encoder(config.encoder).config.graph


def model_config(found: PretrainedEncoder, recipe: Recipe, **others: Any) -> GapModelConfig:
    """What a recipe's network on an encoder is made of.

    Args:
        found: The encoder.
        recipe: Names the blocks and layers with adapters.
        others: Further fields of `GapModelConfig`.

    Raises:
        ConfigurationError: If the encoder has no such block or layer; the message says what it has.
    """
    for key in ("blocks", "modules"):
        try:
            found.adapter_targets(**{key: getattr(recipe, key)})
        except ValueError as error:
            raise ConfigurationError(f"recipe.{key}: {error}") from error
    return GapModelConfig(
        encoder=found.architecture,
        encoder_settings=found.settings,
        target_modules=found.adapter_targets(recipe.blocks, recipe.modules),
        **others,
    )


def check_blocks(config: ComparisonConfig) -> None:
    """Refuse blocks and layers that the encoder does not have before anything is trained.

    Raises:
        ConfigurationError: If the recipe, or an ablation, adapts one of them.
    """
    found = find_encoder(config.encoder)
    for each in members(config):
        try:
            model_config(found, each.recipe)
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
    weights = layout.encoder / WEIGHTS
    content = dataset.content(range(len(dataset.frame)))
    key = digest(FEATURES_VERSION, *features_of(run, recipe), content)[:16]
    path = layout.dataset / f"features-{key}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        model = GapModel(model_config(find_encoder(config.encoder), recipe, method="lora"))
        encoder_weights(weights, model)
        found = frozen_features(model.eval(), dataset.store, config.prediction.batch_atoms)
        with whole_file(path) as partial:
            save_file({"features": found}, partial)
    return load_file(path)["features"]
