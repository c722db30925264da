"""Where a training starts: from a pretrained encoder, from random weights, or from a trained gap model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mofgap.counts import counted
from mofgap.gap.folder import About, ModelError, encoder_weights, read_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.training.config import FinetuneConfig
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.uncertainty.scaling import Scaling


@dataclass(frozen=True, eq=False)
class Parent:
    """What a model keeps of the gap model it started from."""

    name: str
    scaling: Scaling
    novelty: NoveltyIndex


@dataclass(frozen=True, eq=False)
class Begun:
    """A model that is ready to be trained, and the gap model that it started from, or None."""

    model: GapModel
    parent: Parent | None = None


def begin_model(
    model_config: GapModelConfig | None,
    start: Path | None,
    config: FinetuneConfig,
    level_of_theory: str = About.level_of_theory,
) -> Begun:
    """A new model on an encoder, or a trained one, ready to be trained.

    Args:
        model_config: What a new model is made of; None goes on from a gap model.
        start: Pretrained ``encoder.safetensors``, or the folder of that gap model; None leaves the encoder
            its random weights.
        config: How it will be trained; the seed is that of new weights.
        level_of_theory: Of the labels.

    Raises:
        ModelError: If the encoder's weights in ``start`` do not fit, or the gap model in ``start`` cannot be
            loaded.
    """
    torch.manual_seed(config.seed)
    if model_config is not None:
        begun = Begun(GapModel(replace(model_config, correction_size=0, members=())))  # come later
        if start is not None:
            encoder_weights(start, begun.model)
    else:
        assert start is not None  # there is nothing else to go on from
        begun = _begin_trained(start, level_of_theory)
    if config.unfreeze:
        for weight in begun.model.unadapted():
            weight.requires_grad_()
    return begun


def _begin_trained(start: Path, level_of_theory: str) -> Begun:
    """A trained model whose adapters, noise network and head can be trained again.

    What may be of another level of theory is left behind: its other members, and the gaps it was trained on.
    """
    model, about, calibration, novelty = read_model(start)
    if not level_of_theory == about.level_of_theory != About.level_of_theory:
        model.drop_members()
        novelty = novelty.without_gaps()
    model.drop_correction()
    for layer in model.layers.values():
        layer.lora_A.requires_grad_()
        layer.lora_B.requires_grad_()
    for module in (model.head, model.noise_network):
        if module is not None:
            module.requires_grad_()
    return Begun(model.train(), Parent(about.name, calibration.scaling, novelty))


def member(folder: Path, first: GapModel, level_of_theory: str, held_out: Collection[str]) -> GapModel:
    """The network of a trained model, to be a member of an ensemble with another.

    Args:
        folder: Of the trained model.
        first: The other model.
        level_of_theory: Of the ensemble.
        held_out: Names of the structures of val and test.

    Raises:
        ModelError: If ``folder`` holds no model that can be loaded, or its model reads other graphs, has
            another level of theory, or was trained on a structure that is ``held_out``.
    """
    model, about, _, novelty = read_model(folder)
    if About.level_of_theory != about.level_of_theory != level_of_theory != About.level_of_theory:
        raise ModelError(
            f"{folder} predicts gaps of {about.level_of_theory}, not of {level_of_theory}: choose a model of "
            "that level"
        )
    if n := len(set(held_out) & set(novelty.ids)):
        raise ModelError(
            f"{folder} was trained on {counted(n, 'structure')} of val or test: train both models with one "
            "column split, or one --split-seed"
        )
    if model.graph_config != first.graph_config:
        raise ModelError(
            f"{folder} reads other graphs than the model that it shall be a member of: choose another"
        )
    model.drop_members()
    model.drop_correction()
    return model
