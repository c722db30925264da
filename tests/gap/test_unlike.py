from __future__ import annotations

import numpy as np

from mofgap.crystals.crystal import Crystal
from mofgap.gap.unlike import novelty_warnings
from mofgap.uncertainty.novelty import fit_novelty

OXIDE = Crystal(2.5 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([12, 8]))


def test_what_is_far_seldom_or_unseen_is_named() -> None:
    rng = np.random.default_rng(0)
    names = [f"s{i}" for i in range(64)]
    index = fit_novelty(rng.normal(size=(64, 4)), [[12, 8]] * 64, names, coordination=[{(12, 8)}] * 64)
    nearest = ["a", "b", "c", "d"]
    assert novelty_warnings(index, OXIDE, 0.5, nearest, {}) == []
    (far,) = novelty_warnings(index, OXIDE, 0.995, nearest, {})
    assert far == "novel: far from every training structure; nearest are a, b, c; check the gap by DFT"
    unseen, seldom = novelty_warnings(index, OXIDE, 1.0, nearest, {96: 0, 31: 4})
    assert unseen.startswith("novel: training saw no Cm;")
    assert seldom == "seldom-elements: Ga in 4 training structures"
    pulled = Crystal(3.5 * np.eye(3), OXIDE.frac_coords, OXIDE.atomic_numbers)
    (strange,) = novelty_warnings(index, pulled, 0.5, nearest, {})
    assert "training saw no Mg with 0 neighbours" in strange
