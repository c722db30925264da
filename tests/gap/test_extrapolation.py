from __future__ import annotations

import os
from pathlib import Path

import gemmi
import numpy as np
import pandas as pd
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.gap.extrapolation import KNOWN_GAPS, extrapolation_notes
from mofgap.gap.novelty_warnings import is_note
from mofgap.screening.levels import MODELS
from mofgap.uncertainty.novelty import RARE

HSE06 = MODELS["hse06"]


def crystal(*symbols: str) -> Crystal:
    numbers = np.array([gemmi.Element(symbol).atomic_number for symbol in symbols])
    return Crystal(30 * np.eye(3), np.random.default_rng(0).random((len(numbers), 3)), numbers)


def test_what_the_hse06_model_has_few_gaps_of_is_a_note() -> None:
    assert extrapolation_notes(HSE06, crystal("Zn", *["C"] * 149)) == []
    (large,) = extrapolation_notes(HSE06, crystal("Zn", *["C"] * 150))
    assert large.startswith("extrapolation: ") and "at most 150 atoms (this one has 151)" in large
    (both,) = extrapolation_notes(HSE06, crystal("Zr", "Zr", "Tc", *["C"] * 150))
    assert "153" in both and "only 4 structures with Zr" in both and "no structure with Tc" in both
    assert is_note(both) and " | " not in both


def test_a_structure_that_resembles_none_with_a_known_gap_has_the_note() -> None:
    (alone,) = extrapolation_notes(HSE06, crystal("Zn"), nearest_is_known=False)
    assert alone.endswith("training has HSE06 gaps of none of the most similar structures")
    (both,) = extrapolation_notes(HSE06, crystal("Zr"), nearest_is_known=False)
    assert "only 4 structures with Zr, and of none of the most similar structures" in both


def test_a_model_with_a_gap_of_every_structure_has_no_such_note() -> None:
    for model in (MODELS["pbe"], "my-model"):
        assert extrapolation_notes(model, crystal("Zr", *["C"] * 200), nearest_is_known=False) == []
    assert set(KNOWN_GAPS) == {HSE06}


def test_the_numbers_are_those_of_the_training_table() -> None:
    beside = Path(__file__).parents[3] / "shared" / "data" / "qmof.parquet"
    path = Path(os.environ.get("MOFGAP_TABLE", beside))
    if not path.exists():
        pytest.skip("the QMOF table is not here; MOFGAP_TABLE names it")
    table = pd.read_parquet(path, columns=["split", "hse06_gap_ev", "n_atoms", "atomic_numbers"])
    train = table[table.split == "train"]
    counts = {}
    for name, rows in (("all", train), ("labelled", train[train.hse06_gap_ev.notna()])):
        elements = np.concatenate([np.unique(numbers) for numbers in rows.atomic_numbers])
        counts[name] = np.bincount(elements.astype(int), minlength=119)
    seen = np.flatnonzero((counts["all"] > 0) & (counts["labelled"] < RARE))
    few = {gemmi.Element(int(z)).name: int(counts["labelled"][z]) for z in seen}
    assert few == KNOWN_GAPS[HSE06].few
    assert train[train.hse06_gap_ev.notna()].n_atoms.max() == KNOWN_GAPS[HSE06].largest_cell
