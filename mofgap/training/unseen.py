"""Let a model read elements that it never saw as seen ones.

A table of element features starts as random codes, and those of elements that no training meets stay
random. Here their rows become means of the rows of the most similar elements that were seen
(`mofgap.encoders.elements`). It is done after every pretraining and training; a prediction knows nothing of
it.

``python -m mofgap.training.unseen FOLDER ...`` does it to models and encoders that were trained without. With
``--read-as Ru=Fe,Rh`` named elements stand for one that was never seen, with equal shares, where more is
known than descriptors say (``python -m benchmarks.rare_metals``).
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from mofgap.encoders.registry import DEFAULT_ARCHITECTURE, build_encoder
from mofgap.gap.folder import NOVELTY, WEIGHTS, seal
from mofgap.gap.model import GapModel
from mofgap.shipped import CONFIG, DESCRIPTION, ENCODER_WEIGHTS
from mofgap.training.encoder_folder import seal_encoder
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.whole_file import whole_file, write_json

LEAST_SEEN = 5
"""An element in fewer training structures than this stands for no other. With ten, nothing similar may be
left: Ti for Zr, say (``python -m benchmarks.withheld_metals``)."""

Substitutes = dict[str, dict[str, float]]
"""Symbols of elements that were never seen, and of those that they are read as, with their shares."""


def substitutes_of(counts: ArrayLike) -> Substitutes:
    """What each element without data is read as: similar elements in `LEAST_SEEN` or more structures.

    Args:
        counts: Number of structures with an element, by atomic number; longer than `MAX_Z`.
    """
    numbers = np.asarray(counts)[: MAX_Z + 1]
    often = np.flatnonzero(numbers >= LEAST_SEEN).tolist()
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
        weight = torch.tensor(list(shares.values()), dtype=torch.float32)
        for table in tables:
            table[atomic_number(unseen)] = weight / weight.sum() @ table[places].float()


def tables_of(encoder: Encoder) -> list[Tensor]:
    """The tables of an encoder for `substitute`."""
    return [table.weight for table in encoder.element_tables]


def substitute_in_encoder(encoder: Encoder, atomic_numbers: Iterable[ArrayLike]) -> Substitutes:
    """Let an encoder read elements without training data as similar ones, in place.

    Args:
        encoder: What was pretrained.
        atomic_numbers: The atoms of each training structure.

    Returns:
        What it reads as what; nothing for an encoder without tables of elements.
    """
    if not encoder.element_tables:
        return Substitutes()
    found = substitutes_of(element_counts(atomic_numbers))
    substitute(tables_of(encoder), found)
    return found


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


def named_substitutes(counts: ArrayLike, read_as: Mapping[str, Sequence[str]]) -> Substitutes:
    """What each element without data is read as, some as named ones.

    Args:
        counts: As for `substitutes_of`.
        read_as: Symbols of elements that were never seen, and of those that share in each of them equally.

    Raises:
        ValueError: If an element of ``read_as`` was seen, one that it is read as was not, or one is unknown.
    """
    numbers = np.asarray(counts)
    for unseen, others in read_as.items():
        if unknown := [symbol for symbol in (unseen, *others) if not atomic_number(symbol)]:
            raise ValueError(f"{unknown[0]!r} is no symbol of an element; --read-as takes such as Ru=Fe,Rh")
        if n := numbers[atomic_number(unseen)]:
            raise ValueError(f"{unseen} is in {n} training structures, so nothing else can stand for it")
        for other in others:
            if not numbers[atomic_number(other)]:
                raise ValueError(f"{other} is in no training structure, so it cannot stand for {unseen}")
    named = {unseen: dict.fromkeys(others, 1 / len(others)) for unseen, others in read_as.items()}
    return substitutes_of(numbers) | named


def substitute_in(
    folder: Path, counts: ArrayLike, read_as: Mapping[str, Sequence[str]] | None = None
) -> Substitutes:
    """Substitute in every network of a model or encoder on disk, whose other bytes do not change.

    Args:
        folder: Folder of a gap model or of a pretrained encoder.
        counts: As for `substitutes_of`.
        read_as: As for `named_substitutes`.

    Returns:
        What the elements that were never seen are read as.

    Raises:
        ValueError: As of `named_substitutes`.
    """
    is_model = (folder / CONFIG).exists()
    names = (CONFIG, WEIGHTS) if is_model else (DESCRIPTION, ENCODER_WEIGHTS)
    description, path = folder / names[0], folder / names[1]
    described, weights = json.loads(description.read_text(encoding="utf-8")), load_file(path)
    about = described["model"] if is_model else described
    found = named_substitutes(counts, read_as or {})
    settings = about["encoder_settings" if is_model else "encoder"]
    encoder = build_encoder(
        about.get("encoder" if is_model else "architecture", DEFAULT_ARCHITECTURE), settings
    )
    names_of = {id(each): name for name, each in encoder.named_modules()}
    ends = tuple(f".{names_of[id(table)]}.weight" for table in encoder.element_tables)
    tables = [weight for name, weight in weights.items() if f".{name}".endswith(ends)]
    before = about.get("substitutes", {})
    substitute(tables, {unseen: each for unseen, each in found.items() if each != before.get(unseen)})
    for network in (about, *about.get("members", ())):
        network["substitutes"] = found
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
    words = "elements that were never seen, and those that each is read as, such as Ru=Fe,Rh"
    parser.add_argument("--read-as", nargs="+", default=(), metavar="UNSEEN=OTHERS", help=words)
    options = parser.parse_args()
    named = (each.partition("=") for each in options.read_as)
    read_as = {unseen: others.split(",") for unseen, _, others in named}
    try:
        counts = NoveltyIndex.load(options.folders[0] / NOVELTY).element_counts
        for folder in options.folders:
            substitute_in(folder, counts, read_as)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
