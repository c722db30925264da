"""The pretrained encoder of a run, and what it makes of every structure before any training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mofgap.configuration import ConfigurationError
from mofgap.crystals.distinct import TOLERANCE_ANGSTROM, distinct_store
from mofgap.crystals.graph import GraphConfig
from mofgap.gap.folder import encoder_weights
from mofgap.gap.model import GapModel
from mofgap.shipped import DESCRIPTION, ENCODER_WEIGHTS
from mofgap.study.config import ComparisonConfig, Recipe
from mofgap.study.dataset import Dataset
from mofgap.study.layout import Layout
from mofgap.study.members import first_blocks, members
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.network import network
from mofgap.whole_file import whole_file


def encode(config: ComparisonConfig, run: Path, dataset: Dataset) -> None:
    """Copy the named encoder into the run, and compute its features of every structure.

    There is a file of features for each first adapted block, which all trainings that share it read.

    Raises:
        ModelError: If the encoder that ``config`` names does not exist, or its files are damaged.
    """
    from mofgap.training.finetune import frozen_features

    layout, found = Layout(run), find_encoder(config.encoder)
    for source in (found.weights, found.weights.with_name(DESCRIPTION)):
        with whole_file(layout.encoder / source.name) as partial:
            shutil.copyfile(source, partial)
    store, _ = distinct_store(dataset.store, TOLERANCE_ANGSTROM)  # as a training reads it
    for block in first_blocks(config):
        torch.manual_seed(0)
        recipe = replace(config.recipe, blocks=(block,), modules=None)
        model = GapModel(network(recipe.training("lora"), found))
        encoder_weights(layout.encoder / ENCODER_WEIGHTS, model)
        features = frozen_features(model.eval(), store, config.prediction.batch_atoms)
        with whole_file(layout.features(block)) as partial:
            save_file({"features": features}, partial)


def graph_config(config: ComparisonConfig) -> GraphConfig:
    """The graph that the encoder of a configuration expects."""
    return find_encoder(config.encoder).config.graph


def check_blocks(config: ComparisonConfig) -> None:
    """Refuse blocks and layers that the encoder does not have before anything is trained.

    Raises:
        ConfigurationError: If the recipe or an ablation adapts a block or layer that the encoder does not
            have.
        ModelError: If the encoder that ``config`` names does not exist, or its files are damaged.
    """
    found = find_encoder(config.encoder)
    for each in members(config):
        try:
            network(each.recipe, found)
        except ConfigurationError as error:
            where = f"ablations.{each.variant}: " if each.variant else ""
            raise ConfigurationError(f"{where}recipe.{error}") from error


def features(run: Path, recipe: Recipe) -> Tensor:
    """(n, n_features) pooled features of the pretrained encoder below a recipe's first adapted block."""
    return load_file(Layout(run).features(min(recipe.blocks)))["features"]
