"""Cut the adapters of a trained gap model to a lower rank, or to fewer blocks.

    python -m mofgap.training.rank MODEL RANK -o FOLDER --blocks 3 4

The gaps of the first network stay as they are. Other members and neighbour correction are left out:
``mofgap train --from FOLDER --epochs 0 --ensemble-with ...`` makes them and the error bars anew. Adapters of
later blocks alone make an error bar faster, since its backward pass ends there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mofgap.balora import NoiseNetwork, lower_rank
from mofgap.gap.folder import find_model, read_model, save_model
from mofgap.gap.model import GapModel
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex


def with_lower_rank(model: GapModel, rank: int) -> tuple[GapModel, dict[str, float]]:
    """A model of the same gaps whose adapters have a lower rank; the given one is changed.

    Args:
        model: A model with adapters, without other members and a neighbour correction.
        rank: The new rank.

    Returns:
        The model, and the share of the squares of each adapter's update that its new adapter has, by layer.

    Raises:
        ValueError: If the model has no adapters, or ``rank`` is below 1 or above their rank.
    """
    if not model.layers:
        raise ValueError("the model has no adapters to cut: name one of the method balora or lora")
    shares = lower_rank(model.layers, rank)
    config = model.config
    cut = GapModel(replace(config, rank=rank, lora_alpha=config.lora_alpha / config.rank * rank))
    cut.load_state_dict(model.state_dict())
    return cut.eval().requires_grad_(False), shares


def with_fewer_blocks(
    model: GapModel, blocks: Collection[int], novelty: NoveltyIndex
) -> tuple[GapModel, NoveltyIndex]:
    """A model of the same gaps with adapters in some blocks alone; those of other blocks are added to W0.

    Outputs of more blocks are frozen then. alpha(X) and novelty do not look at those that were not before.

    Args:
        model: A model with adapters, without other members and a neighbour correction. It is changed.
        blocks: Blocks that keep their adapters, counted from 0.
        novelty: Its index of the training structures.

    Returns:
        The model and its index.

    Raises:
        ValueError: If the encoder or its adapters lack a block of ``blocks``.
    """
    encoder, config = model.encoder, model.config
    modules = {name.rpartition(".")[2] for name in model.layers}
    patterns = type(encoder).adapter_targets(encoder.config, blocks, sorted(modules))
    cut = GapModel(replace(config, target_modules=patterns))
    if missing := sorted(cut.layers.keys() - model.layers.keys()):
        raise ValueError(f"{missing[0]} has no adapter in the model")
    state = encoder.state_dict()
    for name, layer in model.layers.items():
        if name not in cut.layers:
            state = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
            state |= {f"{name}.{key}": value for key, value in layer.merge().state_dict().items()}
    cut.encoder.load_state_dict(state)
    rest = {key: value for key, value in model.state_dict().items() if not key.startswith("backbone.")}
    cut.load_state_dict(rest, strict=False)
    n_old, n_new = (3 * each.encoder.n_frozen * encoder.width for each in (model, cut))
    place = torch.arange(n_new).view(3, -1)[:, : n_old // 3].flatten()  # of the features there were
    if model.noise_network is not None and cut.noise_network is not None:
        _take(cut.noise_network, model.noise_network, place, [name in cut.layers for name in model.layers])
    projection = np.zeros((n_new, novelty.projection.shape[1]), dtype=np.float32)
    mean = np.zeros(n_new, dtype=np.float32)
    projection[place], mean[place] = novelty.projection, novelty.mean
    return cut.eval().requires_grad_(False), replace(novelty, mean=mean, projection=projection)


def _take(network: NoiseNetwork, other: NoiseNetwork, place: Tensor, kept: list[bool]) -> None:
    """Give a noise network the weights of another, for some layers, with its features at some places."""
    state, own = other.state_dict(), network.state_dict()
    rows = torch.tensor(kept)
    state["network.3.weight"], state["network.3.bias"] = (
        state[f"network.3.{name}"][rows] for name in ("weight", "bias")
    )
    own["feature_mean"].zero_()[place] = state.pop("feature_mean")
    own["feature_std"].fill_(torch.inf)[place] = state.pop("feature_std")  # others are ignored
    own["network.0.weight"].zero_()[:, place] = state.pop("network.0.weight")
    network.load_state_dict(own | state)


def main() -> None:
    """Cut the model of a folder, and say how much of each update is left to its adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="Shipped model or model folder.")
    parser.add_argument("rank", type=int, help="New rank.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Model folder to be written.")
    parser.add_argument(
        "--blocks", type=int, nargs="+", help="Blocks that keep their adapters; default: all."
    )
    asked = parser.parse_args()
    if asked.output.exists():
        parser.error(f"{asked.output} exists; name a new folder")
    try:
        model, about, calibration, novelty = read_model(find_model(asked.model))
        model.drop_members()
        model.drop_correction()
        cut, shares = with_lower_rank(model, asked.rank)
        if asked.blocks:
            cut, novelty = with_fewer_blocks(cut, asked.blocks, novelty)
    except ValueError as error:
        parser.error(str(error))
    raw = Calibration.raw(calibration.scaling)  # fitted to another spread, of other members
    save_model(asked.output, cut, about, raw, novelty)
    for name in cut.layers:
        sys.stdout.write(f"{name}: {shares[name]:.1%}\n")


if __name__ == "__main__":
    main()
