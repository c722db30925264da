from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.configuration import ConfigurationError
from mofgap.crystals.dataset import TableError
from mofgap.study.config import SplitConfig
from mofgap.study.splits import assign, order


def table(n: int, seed: int, largest_group: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "structure_id": [f"s{i}" for i in range(n)],
            "atomic_numbers": [rng.choice([1, 6, 27, 30], 3) for _ in range(n)],
            "split": rng.choice(["train", "val", "test"], n, p=[0.6, 0.2, 0.2]),
            "group": np.r_[
                rng.integers(0, max(1, n // largest_group), n // 2), 10**6 + np.arange(n - n // 2)
            ],
        }
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), deal=st.integers(0, 1000))
def test_a_grouped_split_keeps_groups_together_and_sizes_as_they_were(seed: int, deal: int) -> None:
    frame = table(60, seed)
    part = assign(frame, SplitConfig("grouped"), deal)
    assert part.groupby(frame.group).nunique().max() == 1
    assert part.value_counts().to_dict() == frame.split.value_counts().to_dict()


def test_a_grouped_split_tests_as_many_rows_as_it_is_told_to() -> None:
    frame = table(60, 0)
    part = assign(frame, SplitConfig("grouped", n_test=30), 0)
    assert part.groupby(frame.group).nunique().max() == 1
    assert (part == "test").sum() == 30
    assert (part == "val").sum() == (frame.split == "val").sum()


def test_a_structure_without_a_group_is_one_of_its_own() -> None:
    frame = table(60, 0)
    frame.loc[::2, "group"] = None
    part = assign(frame, SplitConfig("grouped"), 0)
    assert part.value_counts().to_dict() == frame.split.value_counts().to_dict()
    assert set(part[::2]) == {"train", "val", "test"}


def test_only_a_grouped_split_is_told_how_much_to_test() -> None:
    with pytest.raises(ConfigurationError, match="n_test: goes with kind: grouped"):
        SplitConfig("column", n_test=30)


def test_grouped_splits_of_another_seed_differ() -> None:
    frame = table(60, 0)
    first, second = (assign(frame, SplitConfig("grouped"), seed) for seed in (0, 1))
    assert (first != second).any()


def test_an_element_left_out_is_nowhere_else() -> None:
    frame = table(80, 1)
    part = assign(frame, SplitConfig("without", element="Co"), 0)
    holds = frame.atomic_numbers.map(lambda z: 27 in z)
    assert ((part == "left_out") == holds).all()
    assert (part[~holds] == frame.split[~holds]).all()


def test_fewer_rows_are_some_of_the_more_whatever_order_they_come_in() -> None:
    ids = [f"s{i}" for i in range(30)]
    first = [ids[i] for i in order(ids, 3)]
    turned = ids[::-1]
    assert [turned[i] for i in order(turned, 3)] == first
    assert [i for i in first if i != ids[7]] == [(ids[:7] + ids[8:])[i] for i in order(ids[:7] + ids[8:], 3)]


def test_what_a_split_needs_and_the_table_lacks_is_named() -> None:
    frame = table(20, 0)
    with pytest.raises(TableError, match="no column 'family'"):
        assign(frame, SplitConfig("grouped", group="family"), 0)
    with pytest.raises(TableError, match="leaves no structure for left_out"):
        assign(frame, SplitConfig("without", element="U"), 0)
    with pytest.raises(TableError, match=r"train, val, test.*'tset'"):
        assign(frame.assign(split="tset"), SplitConfig(), 0)
