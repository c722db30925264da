from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

import mofgap
from mofgap.configuration import ConfigurationError
from mofgap.report.notebook import Screening
from mofgap.screening.row import FIELDS, Row
from mofgap.screening.table import to_frame, write_table

MARKUP = '"><script>alert(1)</script>'


def row(rank: int, name: str = "s", **more: object) -> Row:
    values: dict[str, object] = {
        "formula": "CHO2Zn",
        "gap_ev": 2.0,
        "gap_std_ev": 0.4,
        "gap_lo90_ev": 1.4,
        "gap_hi90_ev": 2.6,
        "p_in_window": 0.7,
        "window_lo_ev": 1.8,
        "window_hi_ev": 3.0,
    }
    return Row(rank, f"{name}.cif", name, "ok", **(values | more))  # type: ignore[arg-type]


def screening(*rows: Row) -> Screening:
    return Screening(to_frame(rows))


def test_screen_returns_a_data_frame_that_stays_one_of_its_kind(
    model_folder: Path, write_cifs: object, tmp_path: Path
) -> None:
    write_cifs(tmp_path, 2)  # type: ignore[operator]
    table = mofgap.screen(tmp_path, (1.0, 3.0), model=str(model_folder), progress=True)
    assert isinstance(table, Screening) and isinstance(table, pd.DataFrame) and table.window == (1.0, 3.0)
    assert isinstance(table.head(1), Screening) and isinstance(pickle.loads(pickle.dumps(table)), Screening)
    assert "s0" in table._repr_html_() and isinstance(table.plot(), Figure)


@pytest.mark.parametrize("wrong", [{"path": "table.csv"}, {"cards": -1}])
def test_a_page_that_cannot_be_is_refused_before_anything_is_written(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / wrong.pop("path", "page.html")
    with pytest.raises(ValueError, match=r"a page ends in .html|cards must be 0 or more, not -1"):
        screening(row(1, "a")).report(path, **wrong)
    assert not path.exists()


@pytest.mark.parametrize("window", [(3.0, 1.8), (1.8,), "1.8 3.0"])
def test_what_is_no_window_is_refused_as_in_a_screening(window: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="window"):
        screening(row(1, "a")).report(tmp_path / "page.html", window=window)


def test_rich_table_shows_the_best_rows_and_counts_the_others() -> None:
    rows = [row(i + 1, f"s{i}") for i in range(40)] + [Row(None, "bad.cif", "bad", "failed", "why")]
    shown = screening(*rows)._repr_html_()
    assert "2.00 ± 0.40" in shown and "70%" in shown and "1.40 to 2.60 eV" in shown
    assert shown.count("<tr>") == 16 and "the first 15 of 40 shown" in shown and "1 failed" in shown
    assert "window 1.8 to 3 eV" in shown
    assert "window from 1.8 eV up" in screening(row(1, window_hi_ev=float("inf")))._repr_html_()


def test_two_levels_stand_side_by_side(tmp_path: Path) -> None:
    level = "HSE06 at PBE-D3(BJ) geometry"
    rows = [row(1, level_of_theory=level, pbe_gap_ev=1.25, pbe_gap_std_ev=0.5), Row(None, "b", "b", "failed")]
    write_table(tmp_path / "t.csv", rows, FIELDS)
    table = mofgap.Screening.read(tmp_path / "t.csv")
    shown = table._repr_html_()
    assert "HSE06 / eV" in shown and "PBE / eV" in shown and ">gap / eV" not in shown
    assert "use the HSE06 gap" in shown and "window use" not in screening(row(1))._repr_html_()
    assert "2.00 ± 0.40" in shown and "1.25 ± 0.50" in shown and "1.40 to 2.60 eV" in shown
    assert isinstance(table.plot(), Figure)
    assert ">gap / eV" in table.drop(columns="pbe_gap_std_ev")._repr_html_()
    assert "<table" in table.tail(1)._repr_html_()


def test_markup_is_text() -> None:
    odd = {"formula": MARKUP, "warnings": f"{MARKUP}: {MARKUP} | b: c", "level_of_theory": MARKUP}
    beside = Screening(to_frame([row(1, MARKUP, **odd, pbe_gap_ev=1.0, pbe_gap_std_ev=1.0)], FIELDS))
    assert "<script" not in beside._repr_html_() and "&lt;script&gt;" in beside._repr_html_()
    table = screening(row(1, MARKUP, **odd))
    assert "<script" not in table._repr_html_() and "&lt;script&gt;" in table._repr_html_()
    ends = {"gap_lo90_ev": "gap_lo<script>_ev", "gap_hi90_ev": "gap_hi<script>_ev"}
    assert "<script" not in table.rename(columns=ends)._repr_html_()


@pytest.mark.parametrize(
    "table",
    [
        screening(),
        screening(Row(None, "bad.cif", "bad", "failed", "why")),
        screening(row(1, p_in_window=None, gap_lo90_ev=None, gap_hi90_ev=None)),
        screening(row(1))[["gap_ev", "file"]],
        screening(row(1)).assign(warnings=float("nan")),
        screening(row(1)).drop(columns="gap_hi90_ev"),
    ],
    ids=["empty", "failures only", "no intervals", "some columns", "no texts", "one end of intervals"],
)
def test_odd_tables_show(table: Screening) -> None:
    assert "<table" in table._repr_html_() and repr(table)


def test_tables_of_one_and_of_two_levels_that_were_joined_show() -> None:
    both = Screening(to_frame([row(1, level_of_theory="HSE06", pbe_gap_ev=1.0, pbe_gap_std_ev=1.0)], FIELDS))
    joined = Screening(pd.concat([both, screening(row(2))]))
    assert "1.00 ± 1.00" in repr(joined) and "nan" not in repr(joined) + joined._repr_html_()


def test_plots_of_pandas_are_still_there() -> None:
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    table = screening(row(1), row(2, gap_ev=3.0))
    assert table.plot.scatter("gap_ev", "gap_std_ev").get_xlabel() == "gap_ev"
    assert table[["gap_ev"]].plot().get_legend() is not None
    assert len(table.plot(n_top=1).axes[0].get_yticklabels()) == 1


def test_a_table_that_was_read_back_is_shown_with_its_window(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [row(1)])
    table = mofgap.Screening.read(tmp_path / "t.csv")
    assert table.window == (1.8, 3.0) and "2.00 ± 0.40" in table._repr_html_()


def test_structures_are_found_from_the_folder_of_the_table(
    model_folder: Path, write_cifs: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifs(tmp_path, 1)  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    mofgap.screen("s0.cif", (1.0, 3.0), model=str(model_folder)).to_csv("t.csv", index=False)
    monkeypatch.chdir(tmp_path.parent)
    table = mofgap.Screening.read(tmp_path / "t.csv")
    assert 'class="view"' in table.report(tmp_path / "page.html").read_text()
    with pytest.raises(ValueError, match="lower end first"):
        table.report(tmp_path / "other.html", window=(3.0, 1.0))
    picked = mofgap.select(table, 1, goal="explore", model=mofgap.load_model(model_folder))
    assert picked.table.structure_id.tolist() == ["s0"]
