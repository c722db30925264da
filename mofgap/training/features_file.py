"""Frozen features that a training keeps for its next start."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mofgap.whole_file import whole_file

NAME, SUM = "features", "sha256"


def write_features(path: Path, features: Tensor) -> None:
    """Write features, shape (n_structures, n_features), with their sha256."""
    with whole_file(path) as partial:
        save_file({NAME: features}, partial, metadata={SUM: _sha256(features)})


def read_features(path: Path, n_structures: int) -> Tensor | None:
    """The features of a file; None where it is missing, damaged, or of another number of structures."""
    try:
        with safe_open(str(path), framework="pt") as file:
            expected, features = (file.metadata() or {}).get(SUM), file.get_tensor(NAME)
    except (OSError, SafetensorError):
        return None
    intact = len(features) == n_structures and _sha256(features) == expected
    return features if intact else None


def _sha256(features: Tensor) -> str:
    """Of the values and their shape."""
    values = features.contiguous().numpy()
    return hashlib.sha256(f"{values.dtype} {values.shape}".encode() + values.tobytes()).hexdigest()
