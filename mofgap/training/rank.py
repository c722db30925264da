"""Cut the adapters of a trained gap model to a lower rank.

    python -m mofgap.training.rank MODEL RANK -o FOLDER

The gaps of the first network stay as they are. Other members and neighbour correction are left out:
``mofgap train --from FOLDER --epochs 0 --ensemble-with ...`` makes them and the error bars anew.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from mofgap.balora import lower_rank
from mofgap.gap.folder import find_model, read_model, save_model
from mofgap.gap.model import GapModel
from mofgap.uncertainty.calibrate import Calibration


def with_lower_rank(model: GapModel, rank: int) -> tuple[GapModel, dict[str, float]]:
    """A model of the same gaps whose adapters have a lower rank; the given one is changed.

    Args:
        model: A model with adapters, without other members and a neighbour correction.
        rank: The new rank.

    Returns:
        The model, and the share of the squares of each adapter's update that its new adapter has, by layer.

    Raises:
        ValueError: If ``rank`` is below 1 or above the rank of the model.
    """
    shares = lower_rank(model.layers, rank)
    config = model.config
    cut = GapModel(replace(config, rank=rank, lora_alpha=config.lora_alpha / config.rank * rank))
    cut.load_state_dict(model.state_dict())
    return cut.eval().requires_grad_(False), shares


def main() -> None:
    """Cut the model of a folder, and say how much of each update is left to its adapter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="Shipped model or model folder.")
    parser.add_argument("rank", type=int, help="New rank.")
    parser.add_argument("-o", "--output", type=Path, required=True, help="Model folder to be written.")
    asked = parser.parse_args()
    if asked.output.exists():
        parser.error(f"{asked.output} exists; name a new folder")
    model, about, calibration, novelty = read_model(find_model(asked.model))
    model.drop_members()
    model.drop_correction()
    try:
        cut, shares = with_lower_rank(model, asked.rank)
    except ValueError as error:
        parser.error(str(error))
    raw = Calibration.raw(calibration.scaling)  # fitted to another spread, of other members
    save_model(asked.output, cut, about, raw, novelty)
    for name, share in shares.items():
        sys.stdout.write(f"{name}: {share:.1%}\n")


if __name__ == "__main__":
    main()
