from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mofgap import checked_tensors
from mofgap.checked_tensors import read_tensors, write_tensors

KEPT = {"features": torch.arange(12.0).reshape(4, 3), "count": torch.arange(4)}


def is_kept(found: dict[str, Tensor]) -> bool:
    return found.keys() == KEPT.keys() and all(torch.equal(found[name], KEPT[name]) for name in KEPT)


def test_a_flipped_bit_or_a_lost_byte_is_never_believed(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    write_tensors(path, KEPT)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    found = read_tensors(path)
    assert found is not None and is_kept(found)
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        found = read_tensors(path)
        assert found is None or is_kept(found)
    assert found is None  # the last byte is of the last number
    path.write_bytes(whole[:-1])
    assert read_tensors(path) is None


def test_no_file_and_a_file_without_a_sum_give_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    assert read_tensors(path) is None
    save_file(KEPT, path)
    assert read_tensors(path) is None


def test_two_processes_may_write_one_file_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.safetensors"

    def overtaken(tensors: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
        monkeypatch.setattr(checked_tensors, "save_file", save_file)
        save_file(tensors, target, metadata)
        write_tensors(path, KEPT)  # the other process begins and ends in between

    monkeypatch.setattr(checked_tensors, "save_file", overtaken)
    write_tensors(path, KEPT)
    found = read_tensors(path)
    assert found is not None and is_kept(found)
    assert list(tmp_path.iterdir()) == [path]
