"""Let a model read elements that it never saw as seen ones.

A table of element features starts as random codes, and those of elements that no training meets stay
random. Here their rows become means of the rows of the most similar elements that were seen
(`mofgap.encoders.elements`). It is done after every pretraining and training; a prediction knows nothing of
it.

``python -m mofgap.training.unseen FOLDER ...`` does it to models and encoders that were trained without.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors.torch import load_file, save_file
from torch import Tensor

from mofgap.crystals.elements import MAX_Z, atomic_number, symbol_of
from mofgap.encoders.elements import similar_elements
from mofgap.encoders.encoder import Encoder
from mofgap.encoders.registry import DEFAULT, build_encoder
from mofgap.gap.folder import NOVELTY, WEIGHTS, seal
from mofgap.gap.model import GapModel
from mofgap.shipped import CONFIG, DESCRIPTION, ENCODER_WEIGHTS
from mofgap.training.encoder_folder import seal_encoder
from mofgap.uncertainty.novelty import RARE, NoveltyIndex
from mofgap.whole_file import whole_file, write_json

Substitutes = dict[str, dict[str, float]]
"""Symbols of elements that were never seen, and of those that they are read as, with their shares."""


def substitutes_of(counts: ArrayLike) -> Substitutes:
    """What each element without data is read as: similar elements that `RARE` or more structures have.

    Args:
        counts: Number of structures with an element, by atomic number; longer than `MAX_Z`.
    """
    numbers = np.asarray(counts)[: MAX_Z + 1]
    often = np.flatnonzero(numbers >= RARE).tolist()
    found = {z: similar_elements(z, often) for z in range(1, MAX_Z + 1) if not numbers[z]}
    return {
        symbol_of(z): {symbol_of(other): round(share, 4) for other, share in shares.items()}
        for z, shares in found.items()
        if shares
    }


def element_counts(atomic_numbers: Iterable[ArrayLike]) -> list[int]:
    """Number of structures with an element, by atomic number, up to `MAX_Z`."""
    counts = Counter(int(z) for numbers in atomic_numbers for z in np.unique(np.asarray(numbers)))
    return [counts[z] for z in range(MAX_Z + 1)]


@torch.no_grad()
def substitute(tables: Iterable[Tensor], substitutes: Mapping[str, Mapping[str, float]]) -> None:
    """Set the rows of elements that were never seen, in place.

    Args:
        tables: Features by atomic number, (`MAX_Z` + 1, width) each.
        substitutes: What to read as what.
    """
    for unseen, shares in substitutes.items():
        places = [atomic_number(symbol) for symbol in shares]
        weight = torch.tensor(list(shares.values()))
        for table in tables:
            table[atomic_number(unseen)] = weight / weight.sum() @ table[places]


def tables_of(encoder: Encoder) -> list[Tensor]:
    """The tables of an encoder for `substitute`."""
    return [table.weight for table in encoder.element_tables]


def substitute_unseen(model: GapModel, atomic_numbers: Iterable[ArrayLike]) -> None:
    """Substitute after a training. An element that a training structure has is no longer unseen.

    Args:
        model: What was trained; its encoder says what it had not seen before.
        atomic_numbers: The atoms of each training structure.
    """
    counts = element_counts(atomic_numbers)
    left = {z: shares for z, shares in model.config.substitutes.items() if not counts[atomic_number(z)]}
    substitute(tables_of(model.encoder), left)
    model.config = replace(model.config, substitutes=left)


def substitute_in(folder: Path, counts: ArrayLike) -> Substitutes:
    """Substitute in a model or encoder on disk, whose other bytes do not change.

    Args:
        folder: Folder of a gap model or of a pretrained encoder.
        counts: As for `substitutes_of`.

    Returns:
        What the elements that were never seen are read as.
    """
    is_model = (folder / CONFIG).exists()
    names = (CONFIG, WEIGHTS) if is_model else (DESCRIPTION, ENCODER_WEIGHTS)
    description, path = folder / names[0], folder / names[1]
    described, weights = json.loads(description.read_text(encoding="utf-8")), load_file(path)
    about = described["model"] if is_model else described
    found, prefix = substitutes_of(counts), "encoder." if is_model else ""
    settings = about["encoder_settings" if is_model else "encoder"]
    encoder = build_encoder(about.get("encoder" if is_model else "architecture", DEFAULT), settings)
    names_of = {id(each): name for name, each in encoder.named_modules()}
    substitute([weights[f"{prefix}{names_of[id(table)]}.weight"] for table in encoder.element_tables], found)
    about["substitutes"] = found
    with whole_file(path) as partial:  # the weights may be a view of the file itself
        save_file(weights, partial)
        partial.chmod(0o644)
    write_json(description, described, indent=2)
    (seal if is_model else seal_encoder)(folder)
    return found


def main() -> None:
    """Substitute the elements that the first folder's model never saw, in all folders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="models or encoders; the first is a gap model")
    folders = parser.parse_args().folders
    counts = NoveltyIndex.load(folders[0] / NOVELTY).element_counts
    for folder in folders:
        substitute_in(folder, counts)


if __name__ == "__main__":
    main()
