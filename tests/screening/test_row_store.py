"""Rows sorted on disk: the same table as of rows in memory."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mofgap.screening.outcome import Outcome
from mofgap.screening.rank import DUPLICATES, NOVELTIES, RANKINGS, Duplicates, Novelty, RankBy, rank_rows
from mofgap.screening.row import Row
from mofgap.screening.row_store import RowStore, write_part

few = st.sampled_from([0.0, 0.5, 0.5004, 1.0, 2.0])
failures = st.builds(Row, st.none(), st.sampled_from(["a.cif", "f.cif"]), st.just("f"), st.just("failed"))
predicted = st.builds(
    Row,
    rank=st.none(),
    file=st.sampled_from(["a.cif", "b.cif", "\u00e9.cif", "\U0001f600.cif", "\uffee.cif"]),
    structure_id=st.sampled_from(["a", "b"]),
    status=st.sampled_from(["ok", "warning"]),
    reason=st.just(""),
    formula=st.sampled_from(["C", "CH4", ""]),
    n_atoms=st.integers(1, 3),
    gap_ev=few,
    gap_std_ev=few,
    epistemic_std_ev=st.just(0.1),
    aleatoric_std_ev=st.just(0.2),
    gap_lo90_ev=few,
    gap_hi90_ev=few,
    p_in_window=st.sampled_from([0.0, 0.3, 1.0]),
    novelty=st.sampled_from([None, 0.1]),
    warnings=st.sampled_from(["", "novel: far", "short-contact: 1 | novel: far"]),
    nearest=st.sampled_from(["x (y, 1.0 eV)", "z"]),
    window_lo_ev=st.sampled_from([None, 0.4]),
    window_hi_ev=st.just(1.5),
)
inputs = st.lists(st.lists(predicted | predicted | failures, max_size=3), max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    inputs=inputs,
    rank_by=st.sampled_from(RANKINGS),
    novelty=st.sampled_from(NOVELTIES),
    duplicates=st.sampled_from(DUPLICATES),
    top=st.sampled_from([None, 1, 3]),
    order=st.randoms(),
)
def test_rows_on_disk_make_the_table_of_rows_in_memory(
    tmp_path: Path,
    inputs: list[list[Row]],
    rank_by: RankBy,
    novelty: Novelty,
    duplicates: Duplicates,
    top: int | None,
    order: Random,
) -> None:
    store, outcome = RowStore(rank_by, novelty, tmp_path), Outcome()
    places = list(enumerate(inputs))
    order.shuffle(places)
    part = tmp_path / "part.sqlite"
    write_part(part, outcome.counting(places), rank_by, novelty)
    store.take(part)
    outcome.n_copies = store.find_duplicates()
    everything = [row for rows in inputs for row in rows]
    expected = rank_rows(everything, rank_by, top, novelty, duplicates)
    assert [*store.ranked(top, duplicates), *store.failed()] == expected
    outcome.first_failed = list(store.failed())[:10]
    assert outcome == Outcome.of(everything) == Outcome.from_json(outcome.to_json())
    store.close()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    store = RowStore("low", "keep", tmp_path)
    store._rows.execute("PRAGMA max_page_count=20")
    many = ((place, [Row(None, "f" * 300, "s", "failed")]) for place in range(2000))
    write_part(tmp_path / "part.sqlite", many, "low", "keep")
    with pytest.raises(OSError, match="full"):
        store.take(tmp_path / "part.sqlite")
    store.close()
