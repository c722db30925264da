from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofgap.datasets.groups import group_names, group_of, refcode_family, short_name


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("VOGTIV_clean_h", "VOGTIV"),
        ("VOGTIV02_SL", "VOGTIV"),
        ("ABACUF01_FSR", "ABACUF"),
        ("VOGTIV", "VOGTIV"),
        ("ja5b02777_si_005_clean", "ja5b02777_si_005_clean"),
        ("tobmof-2904", "tobmof-2904"),
        ("SAHYIK01.cif", "SAHYIK"),
        ("core_SAHYIK01_SL", "SAHYIK"),
        ("ABACUF_SAHYIK", "ABACUF"),
        ("a_POSCAR", "a_POSCAR"),
        ("SHORT_clean", "SHORT_clean"),
        ("LONGERNAME_clean", "LONGERNAME_clean"),
    ],
)
def test_refcodes_of_one_substance_share_a_family(name: str, family: str) -> None:
    assert refcode_family(name) == family


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("ABACUF01_FSR", "ABACUF01"),
        ("core_XOQXOR_SL", "XOQXOR"),
        ("gmof_Al2O6-irmof7_B_No1", "gmof_Al2O6-irmof7_B_No1"),
        ("ABACUF_ABACUG", "ABACUF_ABACUG"),
        ("MIL-53 \n (Al)", "MIL-53 (Al)"),
        ("", ""),
    ],
)
def test_a_name_is_shown_by_its_refcode(name: str, short: str) -> None:
    assert short_name(name) == short


def test_groups_join_through_formula_and_family() -> None:
    formulas = ["C2Zn", "C2Zn", "C4Mg", "C8Al", "C1Ba"]
    families = ["AAAAAA", "BBBBBB", "BBBBBB", "CCCCCC", "DDDDDD"]
    assert group_names(formulas, families) == ["C2Zn", "C2Zn", "C2Zn", "C8Al", "C1Ba"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz")), min_size=1, max_size=12))
def test_groups_are_the_connected_parts_in_any_order(pairs: list[tuple[str, str]]) -> None:
    found = dict(zip(pairs, group_names(*zip(*pairs, strict=True)), strict=True))
    backwards = dict(zip(pairs[::-1], group_names(*zip(*pairs[::-1], strict=True)), strict=True))
    assert found == backwards
    for one in pairs:
        for other in pairs:
            if one[0] == other[0] or one[1] == other[1]:
                assert found[one] == found[other]
    # As many groups as flooding finds.
    left, n_parts = set(pairs), 0
    while left:
        n_parts += 1
        edge = [left.pop()]
        while edge:
            at = edge.pop()
            near = {pair for pair in left if pair[0] == at[0] or pair[1] == at[1]}
            left -= near
            edge += near
    assert len(set(found.values())) == n_parts


def test_a_structure_without_a_group_is_one_of_its_own() -> None:
    frame = pd.DataFrame({"structure_id": ["a", "b", "c"], "group": ["g", None, float("nan")]})
    assert group_of(frame).tolist() == ["g", "b", "c"]
    assert group_of(frame.drop(columns="group")).tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["Int64", "category"])
def test_groups_of_any_kind_of_column_are_text(kind: str) -> None:
    groups = pd.Series([7, None, 8], dtype="Int64").astype(kind)
    frame = pd.DataFrame({"structure_id": ["a", "b", "c"], "group": groups})
    assert group_of(frame).tolist() == ["7", "b", "8"]


def test_determinations_of_one_substance_are_a_group_where_none_is_given() -> None:
    frame = pd.DataFrame({"structure_id": ["VOGTIV_clean_h", "VOGTIV02_clean_h", "MOF-5", "qmof-1"]})
    assert group_of(frame).tolist() == ["VOGTIV", "VOGTIV", "MOF-5", "qmof-1"]


def test_a_family_is_known_by_any_name_of_a_structure() -> None:
    numbers = [np.array([30, 8]), np.array([30, 8, 8]), np.array([30, 7])]
    names = {"structure_id": ["SAHYIK", "a", "b"], "name": ["MOF-5, 100 K", "MOF-5, 293 K", ""]}
    frame = pd.DataFrame(names | {"atomic_numbers": numbers, "refcode": [None, "SAHYIK01.cif", None]})
    assert group_of(frame).tolist() == ["O2Zn", "O2Zn", "NZn"]


def test_what_stands_for_no_name_joins_nothing() -> None:
    for missing in ("N/A", "-", "", None, float("nan")):
        frame = pd.DataFrame({"structure_id": ["a", "b"], "refcode": [missing] * 2})
        assert group_of(frame).tolist() == ["a", "b"]


def test_a_name_of_two_substances_joins_both() -> None:
    frame = pd.DataFrame({"structure_id": ["ABACUF", "ABACUF01_SAHYIK", "SAHYIK02"]})
    assert group_of(frame).nunique() == 1
