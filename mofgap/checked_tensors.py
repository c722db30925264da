"""Tensor files with a checksum, so that a damaged file is not used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mofgap.whole_file import whole_file

SUM = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, with the sha256 of all of them."""
    kept = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
        save_file(kept, partial, metadata={SUM: _sha256(kept)})


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file; None where it is missing or damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            expected = (file.metadata() or {}).get(SUM)
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError):
        return None
    return found if _sha256(found) == expected else None


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        values = tensor.numpy()
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()
