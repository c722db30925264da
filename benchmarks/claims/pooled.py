"""Vectors of structures: the frozen crystal transformer, run once for each, pooled over its atoms.

They are kept on disk in parts, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mofgap.checked_tensors import read_tensors, write_tensors
from mofgap.choices import BATCH_ATOMS
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.store import build_store
from mofgap.encoders.encoder import Encoder
from mofgap.encoders.registry import build_encoder
from mofgap.gap.head import pool

PART = 500
"""Structures of a file."""
N_OUTPUTS = 2
"""Outputs of the encoder that are read, from the last."""
Compute = Callable[[Sequence[Crystal], Encoder], dict[str, Tensor]]


def pooled(crystals: Sequence[Crystal], encoder_name: str, folder: Path) -> Tensor:
    """(n, n_features): mean, largest and smallest of each feature of the encoder's last two outputs.

    Args:
        crystals: n structures.
        encoder_name: Pretrained encoder, a name or a folder.
        folder: Keeps what was computed.
    """
    return torch.cat([part["pooled"] for part in kept("pooled", _computed, crystals, encoder_name, folder)])


def kept(
    kind: str, compute: Compute, crystals: Sequence[Crystal], encoder_name: str, folder: Path
) -> Iterator[dict[str, Tensor]]:
    """What a function gives for some structures, in parts; each part from its file where there is one.

    Args:
        kind: Start of the names of files.
        compute: The function.
        crystals: The structures.
        encoder_name: Pretrained encoder that the function is called with, a name or a folder.
        folder: Of the files.
    """
    for start in range(0, len(crystals), PART):
        part = crystals[start : start + PART]
        digest = hashlib.sha256(encoder_name.encode())
        for crystal in part:
            digest.update(crystal.content)
        path = folder / f"{kind}-{digest.hexdigest()[:16]}.safetensors"
        if (tensors := read_tensors(path)) is None:
            folder.mkdir(parents=True, exist_ok=True)
            tensors = compute(part, encoder(encoder_name))
            write_tensors(path, tensors)
        yield tensors


@torch.no_grad()
def _computed(crystals: Sequence[Crystal], frozen: Encoder) -> dict[str, Tensor]:
    store = build_store(crystals, frozen.graph_config)
    found = []
    for batch in store.batches(range(len(store)), BATCH_ATOMS):
        features = frozen(batch)[:, -N_OUTPUTS:].flatten(1)
        found.append(pool(features, batch.structure_idx, len(batch.ptr) - 1))
    return {"pooled": torch.cat(found)}


@cache
def encoder(name: str) -> Encoder:
    """A pretrained encoder that stays as it is."""
    from safetensors.torch import load_file

    from mofgap.training.encoder_folder import find_encoder

    found = find_encoder(name)
    made = build_encoder(found.architecture, found.settings)
    made.load_state_dict(load_file(found.weights))
    return made.eval().requires_grad_(False)
