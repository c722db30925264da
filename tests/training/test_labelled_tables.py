from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mofgap.crystals.dataset import TableError
from mofgap.crystals.formula import reduced_formula
from mofgap.training.labels import read_labels


def test_splits_that_are_not_needed_may_be_empty(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    tiny_frame[:1].to_parquet(tmp_path / "one.parquet")
    assert len(read_labels(tmp_path / "one.parquet", None, "gap_ev", needed=()).frame) == 1


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("structure_id", "a\nb", "bad-name"),
        ("frac_coords", np.full(15, np.nan), "bad-coordinates"),
        ("frac_coords", np.zeros(12), "bad-coordinates: 4 places for 5 atoms"),
        ("frac_coords", None, ""),
        (
            "frac_coords",
            np.array([0, 0, 0, 0.001, 0, 0, 0.5, 0, 0.5, 0, 0.5, 0.5, 0.2, 0.2, 0.2]),
            "overlapping",
        ),
        ("cell_angstrom", np.zeros(9), "bad-cell"),
        ("cell_angstrom", np.ones(4), ""),
        ("atomic_numbers", np.array([30, 8, 6, 8, 110]), "unknown-element"),
        ("atomic_numbers", np.array([300, 8, 6, 8, 1]), ""),
        ("atomic_numbers", np.array([], dtype=int), "bad-coordinates"),
    ],
)
def test_rows_that_no_model_can_compute_with_are_skipped(
    tmp_path: Path, tiny_frame: pd.DataFrame, column: str, value: object, reason: str
) -> None:
    frame = tiny_frame.copy()
    coords = np.array([0, 0, 0, 0.5, 0.5, 0, 0.5, 0, 0.5, 0, 0.5, 0.5, 0.25, 0.25, 0.25])
    row = {"cell_angstrom": np.eye(3).ravel() * 8, "atomic_numbers": np.array([30, 8, 6, 8, 1])}
    for name, given in (row | {"frac_coords": coords, column: value}).items():
        frame.at[3, name] = given
    frame.to_parquet(tmp_path / "table.parquet")
    labels = read_labels(tmp_path / "table.parquet", None, "gap_ev", needed=())
    assert len(labels.frame) == len(frame) - 1
    assert len(labels.skipped) == 1 and labels.skipped[0].startswith(f"{frame.structure_id[3]}: {reason}")


def test_a_missing_gap_is_told_whatever_the_column_calls_it(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    gaps = pd.array([pd.NA, *tiny_frame.gap_ev[1:]], dtype="Float64")  # as of frame.convert_dtypes()
    tiny_frame.assign(gap_ev=gaps).to_parquet(tmp_path / "table.parquet")
    labels = read_labels(tmp_path / "table.parquet", None, "gap_ev", needed=())
    assert labels.skipped == (f"{tiny_frame.structure_id[0]}: no gap_ev between 0 and 25 eV",)


def test_a_table_without_validation_rows_is_refused(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    tiny_frame.assign(split="train").to_parquet(tmp_path / "table.parquet")
    with pytest.raises(TableError, match="split 'val'"):
        read_labels(tmp_path / "table.parquet", None, "gap_ev")


def test_a_column_of_lists_is_no_split(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    path = tmp_path / "table.parquet"
    tiny_frame.to_parquet(path)
    with pytest.raises(TableError, match=r"table\.parquet: cell_angstrom may be train, val, test, not '\["):
        read_labels(path, None, "gap_ev", split_column="cell_angstrom")


def test_identifiers_of_a_table_are_text_and_there(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    path, numbers = tmp_path / "table.parquet", range(len(tiny_frame))
    tiny_frame.assign(structure_id=numbers).to_parquet(path)
    assert read_labels(path, None, "gap_ev").frame.structure_id.tolist() == list(map(str, numbers))
    tiny_frame.assign(structure_id=[None, "", *tiny_frame.structure_id[2:]]).to_parquet(path)
    with pytest.raises(TableError, match=r"table\.parquet: 2 rows without structure_id"):
        read_labels(path, None, "gap_ev")


def test_a_family_is_dealt_as_a_whole(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    many = pd.concat([tiny_frame] * 4, ignore_index=True).drop(columns="split")
    family = [f"family {i % 20}" if i % 5 else None for i in range(len(many))]
    many.assign(structure_id=[f"s{i}" for i in range(len(many))], group=family).to_parquet(
        tmp_path / "t.parquet"
    )
    labels = read_labels(tmp_path / "t.parquet", None, "gap_ev", needed=())
    together = labels.frame[labels.frame.group.notna()].groupby("group").split.nunique()
    assert (together == 1).all() and labels.frame.split.nunique() == 3
    alone = labels.frame.group.isna().to_numpy()
    formulas = [reduced_formula(numbers) for numbers in labels.frame.atomic_numbers]
    assert (np.array(labels.families)[alone] == np.array(formulas)[alone]).all()


def test_a_parquet_table_is_taken_as_it_is(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    tiny_frame.to_parquet(tmp_path / "table.parquet")
    labels = read_labels(tmp_path / "table.parquet", None, "gap_ev")
    assert labels.frame.structure_id.tolist() == tiny_frame.structure_id.tolist()
    assert labels.frame.split.tolist() == tiny_frame.split.tolist()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty; make it again"),
        (b"PAR1 cut off", "no parquet table, or a damaged one; make it again"),
        (b"PAR1 cut off PAR1", "no parquet table, or a damaged one; make it again"),
        (None, "is a folder; name a parquet table"),
    ],
)
def test_a_damaged_parquet_table_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "table.parquet"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(TableError, match=rf"table\.parquet: {words}$"):
        read_labels(path, None, "gap_ev")


def test_the_parquet_files_of_a_folder_are_a_table(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    path = tmp_path / "table.parquet"
    path.mkdir()
    tiny_frame[:10].to_parquet(path / "a.parquet")
    tiny_frame[10:].to_parquet(path / "b.parquet")
    labels = read_labels(path, None, "gap_ev")
    assert labels.frame.structure_id.tolist() == tiny_frame.structure_id.tolist()


def test_a_deal_of_one_formula_says_why_a_split_is_empty(tmp_path: Path, tiny_frame: pd.DataFrame) -> None:
    same = tiny_frame.assign(atomic_numbers=[[30, 8]] * len(tiny_frame)).drop(columns="split")
    same["frac_coords"] = [[0, 0, 0, 0.5, 0.5, 0.5]] * len(same)
    same.to_parquet(tmp_path / "table.parquet")
    with pytest.raises(TableError, match="here 1 group"):
        read_labels(tmp_path / "table.parquet", None, "gap_ev")
