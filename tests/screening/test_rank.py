from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mofgap.screening.rank import (
    NOVELTIES,
    RANKINGS,
    Novelty,
    RankBy,
    check_window,
    is_novel,
    rank_rows,
    ranking,
)
from mofgap.screening.row import Row

# Few values, so that ties happen.
number = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.5])
name = st.sampled_from(["a", "b", "c"])
predicted = st.builds(
    Row,
    rank=st.none(),
    file=name,
    structure_id=name,
    status=st.sampled_from(["ok", "warning"]),
    gap_ev=number,
    gap_std_ev=number,
    p_in_window=number,
    warnings=st.sampled_from(["", "odd-valence: x", "odd-valence: x | novel: far", "novel: far"]),
)
failed = st.builds(Row, rank=st.none(), file=name, structure_id=name, status=st.just("failed"))
table = st.lists(predicted | failed, max_size=12)
KEY = {"window": "p_in_window", "low": "gap_ev", "high": "gap_ev", "std": "gap_std_ev"}


@given(table, st.sampled_from(RANKINGS))
def test_ranked_rows_come_first_in_order_and_failures_last(rows: list[Row], rank_by: RankBy) -> None:
    result = rank_rows(rows, rank_by)
    n = sum(row.status != "failed" for row in rows)
    assert [row.rank for row in result] == [*range(1, n + 1), *[None] * (len(rows) - n)]
    values = [getattr(row, KEY[rank_by]) for row in result[:n]]
    assert values == sorted(values, reverse=rank_by in ("window", "high"))
    assert result[n:] == [row for row in rows if row.status == "failed"]


@pytest.mark.parametrize(
    ("window", "order"),
    [((7.0, 7.5), "cab"), ((1.0, 9.0), "bca"), ((None, 9.0), "bac"), ((1.0, None), "bca")],
)
def test_equal_probabilities_go_by_the_distance_from_the_window(
    window: tuple[float | None, float | None], order: str
) -> None:
    low, high = window
    numbers = {"a": (3.0, 0.4), "b": (4.5, 0.2), "c": (6.0, 0.5)}
    rows = [
        Row(
            None,
            key,
            key,
            "ok",
            gap_ev=gap,
            gap_std_ev=std,
            p_in_window=0.0,
            window_lo_ev=low,
            window_hi_ev=high,
        )
        for key, (gap, std) in numbers.items()
    ]
    assert "".join(row.file for row in rank_rows(rows, "window")) == order


@given(table, st.sampled_from(RANKINGS), st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_the_inputs(rows: list[Row], rank_by: RankBy, random) -> None:
    shuffled = random.sample(rows, len(rows))
    place = [(row.rank, row.file, row.structure_id) for row in rank_rows(rows, rank_by) if row.rank]
    again = [(row.rank, row.file, row.structure_id) for row in rank_rows(shuffled, rank_by) if row.rank]
    assert place == again


@given(table, st.sampled_from(RANKINGS), st.integers(1, 5))
def test_top_cuts_ranked_rows_alone(rows: list[Row], rank_by: RankBy, top: int) -> None:
    whole, cut = rank_rows(rows, rank_by), rank_rows(rows, rank_by, top)
    assert cut == [row for row in whole if row.rank is None or row.rank <= top]


@given(table, st.sampled_from(RANKINGS), st.sampled_from(NOVELTIES))
def test_novel_rows_are_kept_put_last_or_dropped(rows: list[Row], rank_by: RankBy, novel: Novelty) -> None:
    result, kept = rank_rows(rows, rank_by, novelty=novel), rank_rows(rows, rank_by)
    ranked = [row for row in result if row.rank]
    assert [row.rank for row in ranked] == list(range(1, len(ranked) + 1))
    strip = [(row.file, row.structure_id, row.gap_ev) for row in ranked]
    familiar = [(r.file, r.structure_id, r.gap_ev) for r in kept if r.rank and not is_novel(r)]
    assert [key for key, row in zip(strip, ranked, strict=True) if not is_novel(row)] == familiar
    if novel == "keep":
        assert result == kept
    elif novel == "drop":
        assert strip == familiar
    else:
        assert len(result) == len(rows) and strip[: len(familiar)] == familiar


def test_a_window_begins_with_its_lower_end() -> None:
    inf = float("inf")
    for window in ((1.8, 3.0), (2.0, 2.0), (-inf, 2.0), (-inf, inf)):
        check_window(*window)
    for low, high in ((3.0, 1.8), (float("nan"), 1.8), (inf, inf)):
        with pytest.raises(ValueError, match=r"lower end first|same infinity"):
            check_window(low, high)
    for low, high in ((1800, 3000), (400, inf)):
        with pytest.raises(ValueError, match="give eV: divide meV by 1000, or 1239"):
            check_window(low, high)


def test_default_ranking_follows_the_window() -> None:
    assert ranking(None, (1.8, 3.0)) == "window"
    assert ranking(None, None) == "low"
    assert ranking("std", (1.8, 3.0)) == "std"
    with pytest.raises(ValueError, match="window"):
        ranking("window", None)
    with pytest.raises(ValueError, match=", ".join(RANKINGS)):
        rank_rows([], "best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="novel"):
        rank_rows([], "low", novelty="hide")  # type: ignore[arg-type]
