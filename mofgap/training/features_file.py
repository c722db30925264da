"""Frozen features that a training keeps for its next start."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from mofgap.checked_tensors import read_tensors, write_tensors

NAME = "features"


def write_features(path: Path, features: Tensor) -> None:
    """Write features, shape (n_structures, n_features)."""
    write_tensors(path, {NAME: features})


def read_features(path: Path, n_structures: int) -> Tensor | None:
    """The features of a file; None where it is missing, damaged, or of another number of structures."""
    features = (read_tensors(path) or {}).get(NAME)
    return features if features is not None and len(features) == n_structures else None
