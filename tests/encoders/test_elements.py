from __future__ import annotations

import gemmi
import numpy as np
import pytest

from mofgap.crystals.elements import MAX_Z
from mofgap.encoders.elements import descriptors, similar_elements

METALS = [3, 11, 12, 13, 20, 22, 23, 26, 29, 30, 39, 40, 45, 47, 48, 49, 57, 60, 62, 82]


def test_every_element_is_described_and_no_two_alike() -> None:
    values = descriptors()
    assert values.shape[0] == MAX_Z + 1
    assert np.isfinite(values).all()
    assert not values[0].any()
    np.testing.assert_allclose(values[1:].mean(axis=0), 0, atol=1e-5)
    assert len(np.unique(values, axis=0)) == MAX_Z + 1


@pytest.mark.parametrize(
    ("symbol", "first"), [("Hf", "Zr"), ("Ga", "Al"), ("Ru", "Rh"), ("Pm", "Nd"), ("Ra", "Ca"), ("He", "O")]
)
def test_the_most_alike_is_the_chemist_s_choice(symbol: str, first: str) -> None:
    number, among = gemmi.Element(symbol).atomic_number, [*METALS, 6, 8, 53]
    shares = similar_elements(number, [number, *among])
    assert gemmi.Element(next(iter(shares))).name == first
    assert number not in shares
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_metal_is_read_as_metals_alone() -> None:
    assert similar_elements(72, [6, 8]) == {}
    assert set(similar_elements(72, [6, 8, 40, 22])) == {40, 22}
