from __future__ import annotations

import numpy as np
import pytest

from mofgap.crystals.formula import formula_sum, parse_formula, reduced_formula


def test_formulas_are_in_hill_order() -> None:
    assert formula_sum(np.array([30, 8, 6, 1, 8, 35])) == "C H Br O2 Zn"
    assert formula_sum(np.array([30, 8])) == "O Zn"


def test_a_reduced_formula_has_the_smallest_whole_counts() -> None:
    assert reduced_formula(np.array([30, 30, 8, 8, 6, 6, 1, 1, 1, 1])) == "CH2OZn"
    assert reduced_formula(np.array([8, 30])) == "OZn"


@pytest.mark.parametrize("text", ["C24 H12 O13 Zn4", "C24H12O13Zn4", "Zn4 (C24 H12) O13"])
def test_a_formula_is_read_as_counts(text: str) -> None:
    assert parse_formula(text) == {6: 24, 1: 12, 8: 13, 30: 4}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "C24 Xx2",
        "Zn (C O2)2",
        "Zn O4, 2(H2 O)",
        "Zn O4, x(C3 H7 N O)",
        "Zn, 2n(H2 O1)",
        "C" * 1001,
        f"C{'1' * 21}",
    ],
)
def test_a_text_that_is_no_formula_gives_none(text: str) -> None:
    assert parse_formula(text) == {}


@pytest.mark.parametrize("text", ["C8 H4 O4 2-, Zn 2+", "C8 H4 O4 Zn +2", "C8 H4 O4 Zn 1+"])
def test_a_charge_is_no_count(text: str) -> None:
    assert parse_formula(text) == {6: 8, 1: 4, 8: 4, 30: 1}
