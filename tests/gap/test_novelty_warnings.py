from __future__ import annotations

from dataclasses import replace

import numpy as np

from mofgap.crystals.crystal import Crystal
from mofgap.gap.novelty_warnings import is_note, novelty_warnings
from mofgap.uncertainty.novelty import fit_novelty

OXIDE = Crystal(2.5 * np.eye(3), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([12, 8]))


def test_what_is_far_rare_or_unseen_is_named() -> None:
    rng = np.random.default_rng(0)
    names = [f"s{i}" for i in range(64)]
    how = dict(coordination=[{(12, 8)}] * 64, names=["MgO", *names[1:]], gap_ev=[7.8] + [np.nan] * 63)
    index = fit_novelty(rng.normal(size=(64, 4)), [[12, 8]] * 64, names, **how)
    nearest = ["s0", "s1", "s2", "s3"]
    assert novelty_warnings(index, OXIDE, 0.5, nearest, False, {}) == []
    (far,) = novelty_warnings(index, OXIDE, 0.995, nearest, False, {})
    assert far.startswith("novel: ") and "s0 (MgO, 7.80 eV), s1, s2;" in far
    unseen, rare = novelty_warnings(index, OXIDE, 1.0, nearest, False, {96: 0, 31: 4})
    assert unseen.startswith("novel: no training structure has Cm;")
    assert rare == "rare-elements: few training structures have Ga (4)"
    (read,) = novelty_warnings(index, OXIDE, 1.0, nearest, False, {72: 0}, {"Hf": {"Zr": 0.7, "Ti": 0.3}})
    assert read.startswith("novel: no training structure has Hf (treated as Zr);")
    pulled = Crystal(3.5 * np.eye(3), OXIDE.frac_coords, OXIDE.atomic_numbers)
    (strange,) = novelty_warnings(index, pulled, 0.5, nearest, False, {})
    assert "no training structure has Mg with 0 neighbours" in strange


def test_a_structure_of_training_is_told_as_a_fact() -> None:
    rng = np.random.default_rng(0)
    features, names = rng.normal(size=(64, 9)), [f"s{i}" for i in range(64)]
    index = fit_novelty(features, [[12, 8]] * 64, names)
    moved = features[:1] + 0.1
    found = index.score(np.concatenate([features[:2], moved]), [[12, 8]] * 3)
    assert found.in_training.tolist() == [True, True, False]
    (text,) = novelty_warnings(index, OXIDE, 0.5, found.nearest[1], True, {})
    assert text.startswith("in-training: ") and "s1" in text
    assert is_note(text)
    few = fit_novelty(features[:60], [[12, 8]] * 60, names[:60])
    assert not few.score(features[:1], [[12, 8]]).in_training[0], "seven components are too few to tell"


def test_a_raw_file_of_a_training_structure_is_told_by_its_refcode() -> None:
    features, names = np.random.default_rng(0).normal(size=(64, 9)), [f"s{i}" for i in range(64)]
    known = {"names": ["MIBQAR01", *names[1:]], "gap_ev": [4.65] + [np.nan] * 63}
    index = fit_novelty(features, [[12, 8]] * 64, names, **known)
    for name, told in (("MOF-5_MIBQAR16", True), ("MIBQAR", True), ("MOF-5_SAHYIK", False), ("MOF", False)):
        texts = novelty_warnings(index, replace(OXIDE, structure_id=name), 0.5, ["s1", "s0"], False, {})
        assert [text.startswith("same-refcode: ") for text in texts] == [True] * told
        assert all("s0 (MIBQAR01, 4.65 eV)" in text and is_note(text) for text in texts)
