from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mofgap.screening.row import Row, plain_values
from mofgap.screening.table import ScreeningTableError, write_table
from mofgap.selection.candidates import (
    GOALS,
    CandidateError,
    candidates_for,
    candidates_of,
    quality,
    read_candidates,
    with_quality,
    with_window,
)
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.unbalanced import UNBALANCED_STD


def row(name: str, gap: float, std: float, inside: float | None, novelty: float, **more: object) -> Row:
    values = {
        "formula": "C",
        "n_atoms": 1,
        "gap_ev": gap,
        "gap_std_ev": std,
        "novelty": novelty,
        "model": "m",
    }
    return Row(1, f"{name}.cif", name, "ok", p_in_window=inside, **(values | more))  # type: ignore[arg-type]


ROWS = [
    row("b", 2.0, 0.4, 0.9, 0.5),
    row("=a", 3.0, 0.8, 0.1, 1.0),
    row("c", 2.5, 0.2, 0.5, 0.0),
    Row(None, "d.cif", "d", "failed", reason="empty-file: x"),
]


@pytest.mark.parametrize("extension", [".csv", ".parquet", ".json"])
def test_every_format_gives_the_same_candidates(extension: str, tmp_path: Path) -> None:
    write_table(tmp_path / f"t{extension}", ROWS)
    frame = read_candidates(tmp_path / f"t{extension}")
    assert frame.structure_id.tolist() == ["=a", "b", "c"]
    assert frame.gap_ev.tolist() == [3.0, 2.0, 2.5] and frame.n_atoms.tolist() == [1, 1, 1]


def test_names_that_pandas_took_for_numbers_are_texts(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", [row("777", 2.0, 0.4, 0.9, 0.5), row("778", 3.0, 0.8, 0.1, 1.0)])
    frame = pd.read_csv(tmp_path / "a.csv")
    (tmp_path / "labels.csv").write_text("structure_id,gap_ev\n777,1.0\n")
    found = candidates_for(frame, "explore", None, "keep", tmp_path / "labels.csv")
    assert found.structure_id.tolist() == ["778"]


def test_order_and_repetition_of_rows_do_not_matter(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ROWS)
    write_table(tmp_path / "b.csv", [*ROWS[::-1], ROWS[0]])
    pd.testing.assert_frame_equal(read_candidates(tmp_path / "a.csv"), read_candidates(tmp_path / "b.csv"))


def test_rows_of_two_structures_under_one_name_are_refused(tmp_path: Path) -> None:
    """As where tables of two folders with the same names in them were put together."""
    write_table(tmp_path / "a.csv", [*ROWS, row("b", 2.5, 0.4, 0.9, 0.5)])
    with pytest.raises(CandidateError, match=r"b\.cif \[b\] has rows with different gaps"):
        read_candidates(tmp_path / "a.csv")


def test_structures_whose_file_is_probably_faulty_come_last() -> None:
    texts = ("missing-charge: 2 e", "novel: far", "missing-hydrogens: at C 3 | novel: far", "")
    rows = [row(name, 0.0, 0.9, 0.5, 0.5, warnings=text) for name, text in zip("abcd", texts, strict=True)]
    frame = pd.DataFrame([plain_values(each) for each in rows])
    worth = with_quality(frame, "both", "last").quality
    assert worth[1] == worth[3] > 100 * worth[0] > 0 and worth[0] == worth[2]
    assert with_quality(frame, "both", "keep").quality.nunique() == 1


def test_quality_follows_the_goal(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ROWS)
    frame = read_candidates(tmp_path / "t.csv")
    explore = np.array([1.0, 0.5 * 0.75, 0.25 * 0.5])
    np.testing.assert_allclose(quality(frame, "window"), [0.1, 0.9, 0.5])
    np.testing.assert_allclose(quality(frame, "explore"), explore)
    np.testing.assert_allclose(quality(frame, "both"), np.sqrt(explore * [0.1, 0.9, 0.5]))
    with pytest.raises(ValueError, match="goal"):
        quality(frame, "luck")  # type: ignore[arg-type]
    unknown = frame.assign(novelty=[1.0, np.nan, 0.0])  # counts as the largest
    np.testing.assert_allclose(quality(unknown, "explore"), [1.0, 0.5, 0.25 * 0.5])


def test_a_window_can_be_given_afterwards(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [row("a", 2.0, 0.5, None, 0.1), row("b", 4.0, 0.5, None, 0.1)])
    frame = read_candidates(tmp_path / "t.csv")
    for goal in GOALS:
        if goal != "explore":
            with pytest.raises(CandidateError, match="--window"):
                quality(frame, goal)
    windowed = with_window(frame, (1.5, 2.5), Calibration.raw())
    np.testing.assert_allclose(quality(windowed, "window"), [0.6827, 0.0013], atol=1e-3)
    assert windowed.window_lo_ev.tolist() == [1.5, 1.5] and windowed.window_hi_ev.tolist() == [2.5, 2.5]
    assert with_window(frame, (1.5, np.inf), Calibration.raw()).window_hi_ev.isna().all()


def test_what_is_no_table_of_candidates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    write_table(tmp_path / "failed.csv", ROWS[3:])
    write_table(tmp_path / "two.csv", [ROWS[0], row("z", 1, 1, 1, 1, model="other")])
    for name, message in {"x.csv": "mofgap screen", "failed.csv": "no row", "two.csv": "several"}.items():
        with pytest.raises(CandidateError, match=message):
            read_candidates(tmp_path / name)
    with pytest.raises(ScreeningTableError, match="no such file"):
        read_candidates(tmp_path / "none.csv")


@pytest.mark.parametrize("empty", ["", None, np.nan])
def test_rows_without_a_model_are_refused(empty: object) -> None:
    frame = pd.DataFrame([plain_values(each) for each in ROWS[:3]])
    for models in ([empty] * 3, ["m", empty, "m"]):
        with pytest.raises(CandidateError, match=r"^the table: .* has no model"):
            candidates_of(frame.assign(model=models))


def test_of_several_windows_one_has_to_be_chosen(tmp_path: Path) -> None:
    rows = [row(f"{low}", 2.0, 0.4, 0.9, 0.5, window_lo_ev=low, window_hi_ev=3.0) for low in (1.0, 2.0)]
    write_table(tmp_path / "t.csv", rows)
    frame = read_candidates(tmp_path / "t.csv")
    for goal in ("window", "both"):
        with pytest.raises(CandidateError, match="several windows"):
            quality(frame, goal)
    assert quality(frame, "explore").all()
    with pytest.raises(CandidateError, match="no structure has any chance"):
        quality(with_window(frame, (20.0, 30.0), Calibration.raw()), "window")
    assert quality(with_window(frame, (1.0, 3.0), Calibration.raw()), "window").all()


def test_a_window_that_no_gap_may_lie_in_is_called_so(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [row("a", 2.0, 0.1, 0.0, 0.5), row("b", 3.0, 0.1, 0.0, 0.5)])
    frame = read_candidates(tmp_path / "t.csv")
    for goal in ("window", "both"):
        with pytest.raises(CandidateError, match="no structure has any chance"):
            quality(frame, goal)
    assert quality(frame, "explore").all()


def test_charges_that_do_not_add_up_are_nothing_to_explore() -> None:
    std = np.hypot(0.2, 2.0 * UNBALANCED_STD)
    text = "missing-charge: hydrogens or cations may be missing"
    rows = dict(
        gap_ev=2.0,
        aleatoric_std_ev=0.1,
        novelty=0.5,
        p_in_window=np.nan,
        gap_std_ev=[0.2, std, std, 2.3],
        warnings=[None, text, f"{text} | not-calibrated: its own", text],
    )
    found = quality(pd.DataFrame(rows), "explore")
    assert found[1] == pytest.approx(found[0]), "as without the warning"
    assert found[2] == pytest.approx(found[0] * std / 0.2), "nothing was added to what is not calibrated"
    assert found[3] > found[0]


def test_a_standard_deviation_that_was_cut_is_not_taken_for_small() -> None:
    text = "missing-charge: hydrogens or cations may be missing"
    rows = dict(gap_ev=4.3, aleatoric_std_ev=0.03, novelty=0.5, p_in_window=np.nan)
    frame = pd.DataFrame(rows | dict(gap_std_ev=[0.2, 0.3, 0.4, 2.3], warnings=[None, None, None, text]))
    found = quality(frame, "explore")
    assert found[3] == found[1] < found[2]
    assert quality(frame[3:], "explore").all()
