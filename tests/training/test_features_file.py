from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mofgap.training.features_file import read_features, write_features


def test_damaged_features_are_never_believed(tmp_path: Path) -> None:
    path, features = tmp_path / "features.safetensors", torch.arange(12.0).reshape(4, 3)
    write_features(path, features)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    found = read_features(path, 4)
    assert found is not None and torch.equal(found, features)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        found = read_features(path, 4)
        assert found is None or torch.equal(found, features)
    assert found is None  # the last byte is of the last number
    path.write_bytes(whole[:-1])
    assert read_features(path, 4) is None


def test_features_of_other_structures_or_without_a_sum_are_computed_anew(tmp_path: Path) -> None:
    path, features = tmp_path / "features.safetensors", torch.ones(4, 3)
    assert read_features(path, 4) is None
    write_features(path, features)
    assert read_features(path, 5) is None
    save_file({"features": features}, path)
    assert read_features(path, 4) is None
