from __future__ import annotations

import numpy as np
import pytest
import torch

from mofgap.balora.sketch import signs, sketch


def test_a_sketch_is_a_sum_over_elements_modulo_its_length() -> None:
    values = torch.arange(10.0).view(2, 5)
    expected = torch.tensor([[0.0 + 3, 1 + 4, 2], [5 + 8, 6 + 9, 7]])
    assert torch.equal(sketch(values, 3), expected)


def test_signs_are_those_of_splitmix64() -> None:
    """The generator's first outputs from seed 0, and from one 2^32 steps of the counter later."""

    def outputs(start: int, n: int) -> list[int]:
        found, mask = [], 2**64 - 1
        for i in range(1, n + 1):
            z = (start + i) * 0x9E3779B97F4A7C15 & mask
            z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
            z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
            found.append(z ^ z >> 31)
        return found

    assert outputs(0, 2) == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]  # as published
    for stream in (0, 1):
        expected = [-1.0 if word >> 63 else 1.0 for word in outputs(stream << 32, 12)]
        assert signs(torch.Size([3, 4]), stream).flatten().tolist() == expected


@pytest.mark.parametrize("m", [4096, 5000])
def test_inner_products_and_distances_are_kept_on_average(m: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, m, generator=generator) + 0.3 * torch.randn(1, m, generator=generator)
    n_dims, streams = 64, 60
    folded = [sketch(x * signs(torch.Size([m]), stream), n_dims) for stream in range(streams)]
    found = np.array([torch.cdist(f, f).square().numpy() for f in folded])
    exact = torch.cdist(x, x).square().numpy()
    off = ~np.eye(40, dtype=bool)
    ratio = found[:, off] / exact[off]
    np.testing.assert_allclose(ratio.mean(), 1, atol=0.02)
    np.testing.assert_allclose(ratio.std(), np.sqrt(2 / n_dims), rtol=0.15)
