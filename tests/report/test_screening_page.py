from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from mofgap.gap.novelty_warnings import NOTES
from mofgap.report import file
from mofgap.report import screening_page as screening_page_module
from mofgap.report.elements import periodic_table
from mofgap.report.file import write_report
from mofgap.report.screened import (
    Screened,
    ScreeningTableError,
    element_counts,
    screened,
    symbols_of,
)
from mofgap.report.screening_page import drawn_rows, neighbours_of, notes, screening_page
from mofgap.report.structures import Drawing
from mofgap.screening.origin import ATTRIBUTE, MODEL_DIGEST
from mofgap.screening.row import FIELDS, Row, column_names, warnings_of
from mofgap.screening.shard import SECOND_LEVEL_MODEL
from mofgap.screening.table import read_table, to_frame, write_table

MARKUP = "</script><img src=x onerror=alert(1)>"
WINDOW = (1.8, 3.0)
DRAWING = Drawing(["C"], [[0.0, 0.0, 0.0]], [], [])


def row(rank: int, name: str = "s", **values: object) -> Row:
    fields: dict[str, object] = {
        "rank": rank,
        "file": f"{name}.cif",
        "structure_id": name,
        "status": "ok",
        "formula": "CHO2Zn",
        "n_atoms": 5,
        "gap_ev": 2.0,
        "gap_std_ev": 0.4,
        "epistemic_std_ev": 0.2,
        "aleatoric_std_ev": 0.3,
        "gap_lo90_ev": 1.4,
        "gap_hi90_ev": 2.6,
        "p_in_window": 0.7,
        "novelty": 0.3,
        "level_of_theory": "PBE",
        "model": "tiny",
    }
    return Row(**(fields | values))  # type: ignore[arg-type]


def failure(name: str, reason: str = "no-cell: lengths are missing") -> Row:
    return Row(None, f"{name}.cif", name, "failed", reason)


ROWS = [
    row(1, "a", warnings="novel: no training structure has Al | odd-electrons: odd", status="warning"),
    row(2, "b", gap_ev=3.0),
    failure("c"),
]


class Elements(HTMLParser):
    """Start tags with their attributes, and texts by the tag they stand in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.tags[-1][0] if self.tags else "", []).append(data)


def rows_of(page: str) -> dict[str, list[object]]:
    found = re.search(r'id="rows">(.*?)</script>', page)
    assert found
    content = json.loads(found[1])
    return dict(zip(content["columns"], content["values"], strict=True))


@pytest.mark.parametrize("kind", ["csv", "parquet", "json"])
def test_every_format_gives_the_same_page(kind: str, tmp_path: Path) -> None:
    rows = [*ROWS, failure("-d", "=odd: name")]
    path = tmp_path / f"t.{kind}"
    write_table(path, rows)
    assert screening_page(screened(read_table(path)), "t") == screening_page(screened(to_frame(rows)), "t")


def test_a_large_table_is_cut_on_the_page_and_whole_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (screening_page_module, file):
        monkeypatch.setattr(module, "MAX_ROWS", 2)
    frame = to_frame([row(3, "=b"), row(1, "a"), failure("c"), row(2, "d")])
    said = write_report(tmp_path / "page.html", frame, source="t.parquet")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert rows_of(page)["structure_id"] == ["a", "d"]
    assert "Screening of 4 structures" in page and "first 2 of 4 rows" in page and "c.cif" in page
    assert any("page.rows.csv" in note for note in said) and "page.rows.csv" in page
    pd.testing.assert_frame_equal(read_table(tmp_path / "page.rows.csv"), frame)


def test_a_file_of_all_rows_stays_unless_it_may_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_ROWS", 1)
    (tmp_path / "page.rows.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        write_report(tmp_path / "page.html", to_frame(ROWS), overwrite=False)
    assert (tmp_path / "page.rows.csv").read_text() == "mine" and not (tmp_path / "page.html").exists()


def test_there_are_as_many_drawings_as_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening_page_module, "MAX_PAGE_ATOMS", 5)
    table = screened(to_frame([row(i + 1, f"s{i}") for i in range(20)]))
    assert (len(drawn_rows(table)), len(drawn_rows(table, 15)), len(drawn_rows(table, 1))) == (12, 15, 1)


def test_a_table_in_csv_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (screening_page_module, file):
        monkeypatch.setattr(module, "MAX_ROWS", 1)
    said = write_report(tmp_path / "page.html", to_frame(ROWS), source="t.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"] and "t.csv" in said[1]


def test_coverage_is_read_from_the_columns(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ROWS, column_names(0.95))
    table = screened(read_table(tmp_path / "t.csv"))
    assert table.ends == ("gap_lo95_ev", "gap_hi95_ev")
    assert "95 % interval" in screening_page(table, "t")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "no such file"),
        ("t.txt", "x", "expected a .csv"),
        ("t.csv", "", "is empty"),
        ("t.json", "", "is empty"),
        ("t.parquet", "", "is empty"),
        ("t.xlsx", "", "is empty"),
        ("t.csv", "a,b\n1,2\n", "no column rank"),
        ("t.csv", ",".join(to_frame([]).columns) + "\n", "no rows"),
        ("t.json", "{", "not a table"),
        ("t.json", "[1]", "no names"),
        ("t.parquet", "junk", "not a table"),
    ],
)
def test_other_files_are_refused(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ScreeningTableError, match=message):
        screened(read_table(path))


def test_numbers_that_are_none_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ROWS)
    damaged = (tmp_path / "t.csv").read_text().replace("3.0", "three")
    (tmp_path / "t.csv").write_text(damaged)
    with pytest.raises(ScreeningTableError, match="three"):
        screened(read_table(tmp_path / "t.csv"))


def test_nothing_outside_is_asked_for() -> None:
    page = screening_page(screened(to_frame(ROWS)), "t", WINDOW, {("a.cif", "a"): DRAWING})
    for tag, attributes in Elements(page).tags:
        assert tag not in ("iframe", "link", "object", "base")
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "default-src 'none'" in page and "unsafe-eval" not in page
    assert re.search(r"script-src ('sha256-[A-Za-z0-9+/=]+' ?)+;", page)
    assert not re.search(r"@import|url\((?!#)", page.split("<script")[0])


def test_markup_in_every_text_stays_text() -> None:
    texts = dict.fromkeys(("file", "structure_id", "formula", "level_of_theory", "model"), MARKUP)
    rows = [row(1, warnings=f"{MARKUP}: {MARKUP}", **texts), failure(MARKUP, f"{MARKUP}: {MARKUP}")]
    table = screened(to_frame(rows))
    page = screening_page(table, MARKUP, WINDOW, {(MARKUP, MARKUP): Drawing([MARKUP], [], [], [])})
    parsed = Elements(page)
    assert not [attributes for tag, attributes in parsed.tags if tag == "img"]
    n_scripts = sum(tag == "script" for tag, _ in parsed.tags)
    assert n_scripts == page.count("</script>") == 6
    assert rows_of(page)["structure_id"] == [MARKUP, MARKUP]
    assert any(MARKUP in text for text in parsed.texts["dd"])


def test_page_holds_all_rows_and_the_best_as_cards() -> None:
    rows = [row(i + 1, f"s{i}") for i in range(20)]
    page = screening_page(screened(to_frame(rows).sample(frac=1, random_state=0)), "t", n_cards=3)
    assert page.count('<article class="card"') == 3
    assert [page.index(f">{name}</span>") for name in "123"] == sorted(
        page.index(f">{n}</span>") for n in "123"
    )
    assert len(rows_of(page)["rank"]) == 20


def test_figure_and_table_are_numbered_by_rank() -> None:
    page = screening_page(screened(to_frame([row(4, "b"), row(3, "a"), row(9, "c")])), "t")
    places = [page.index(f">{text}<") for text in ("3  a", "4  b", "9  c")]
    assert places == sorted(places)


def test_structures_are_carried_with_the_viewer_only_where_there_are_any() -> None:
    table = screened(to_frame(ROWS))
    without = screening_page(table, "t")
    assert "$3Dmol" not in without and "CIF files were not found" in without
    one = screening_page(
        table, "t", structures={("b.cif", "b"): DRAWING, ("other", "o"): Drawing([], [], [], [])}
    )
    assert "$3Dmol" in one and "1 of 2 CIF files" in one
    assert '{"1":{"symbols":["C"],' in one and one.count('class="view"') == 2, (
        "one card, and the view of rows"
    )


def test_a_structure_of_standard_input_is_told_as_such(tmp_path: Path) -> None:
    *_, said = write_report(tmp_path / "page.html", to_frame([row(1, file="stdin")]))
    why = "it came from standard input; save it to a file and screen that."
    assert said == f"No structure can be drawn: {why}"
    assert f"No structure is shown: {why}" in (tmp_path / "page.html").read_text()


def test_failures_are_grouped_and_capped() -> None:
    rows = [row(1), failure("x", "rare: once"), *(failure(f"f{i}") for i in range(105))]
    page = screening_page(screened(to_frame(rows)), "t")
    assert "BaLoRA, arXiv:2605.08110" in page
    assert page.index("<b>no-cell</b>") < page.index("<b>rare</b>")
    assert "5 more: choose the status" in page


def test_a_failure_is_named_by_its_block_where_a_part_of_the_file_name_is_equal() -> None:
    rows = [row(1), replace(failure("MOF-12"), structure_id="MOF-1")]
    assert "MOF-12.cif [MOF-1]" in screening_page(screened(to_frame(rows)), "t")


@pytest.mark.parametrize(
    "rows",
    [
        [failure("a"), failure("b")],
        [row(1)],
        [row(1, gap_lo90_ev=None, gap_hi90_ev=None, p_in_window=None, novelty=None, epistemic_std_ev=None)],
        [row(1, formula="", n_atoms=None, level_of_theory="", model="")],
        [row(1), row(2, gap_std_ev=None)],
    ],
    ids=["failures only", "one row", "no intervals", "no texts", "a spread that was blanked"],
)
@pytest.mark.parametrize("window", [None, WINDOW])
def test_odd_tables_give_a_page(rows: list[Row], window: tuple[float, float] | None) -> None:
    page = screening_page(screened(to_frame(rows)), "t", window)
    assert page.rstrip().endswith("</html>") and "nan" not in re.sub("<script.*", "", page, flags=re.DOTALL)


@pytest.mark.parametrize("column", ["level_of_theory", "model", "n_atoms", "gap_lo90_ev", "gap_hi90_ev"])
def test_a_column_that_was_removed_is_no_crash(column: str) -> None:
    frame = to_frame([row(1, pbe_gap_ev=1.0, pbe_gap_std_ev=0.5)], FIELDS).drop(columns=column)
    page = screening_page(screened(frame), "t", WINDOW)
    assert ("90 % interval" in page) == (column[:6] not in ("gap_lo", "gap_hi"))


def test_notes() -> None:
    table = screened(to_frame(ROWS))
    assert any("PBE" in note for note in notes(table, WINDOW))
    assert any("--window" in note for note in notes(table, None))
    assert not any("--window" in note for note in notes(table, WINDOW))
    own = screened(to_frame([row(1, window_lo_ev=1.8, window_hi_ev=3.0)]))
    assert not any("In window" in note for note in notes(own, WINDOW))
    (said,) = (note for note in notes(own, (2.0, float("inf"))) if "In window" in note)
    assert "is for 1.8 to 3 eV, the window screened for; shaded is from 2 eV up" in said
    assert any("the table does not say; shaded is 1.8 to 3 eV" in note for note in notes(table, WINDOW))
    mixed = screened(to_frame([row(1), row(2, model="other")]))
    assert any("several models" in note for note in notes(mixed, WINDOW))


def test_two_levels_stand_side_by_side() -> None:
    level = {"level_of_theory": "HSE06 at PBE-D3(BJ) geometry", "model": "qmof-hse06"}
    rows = [row(1, "a", **level, pbe_gap_ev=1.25, pbe_gap_std_ev=0.5), failure("b")]
    both = screened(to_frame(rows, FIELDS))
    page = screening_page(both, "t", WINDOW)
    assert both.coverage == "90" and both.ends == ("gap_lo90_ev", "gap_hi90_ev")
    assert "PBE gap ± spread" in page and "1.25 ± 0.50 eV" in page and "<b>PBE gap</b>" in page
    assert rows_of(page)["pbe_gap_ev"] == [1.25, None]
    assert not any("lie below measured" in note for note in notes(both, WINDOW)), "a geometry is no level"
    (basis,) = (note for note in notes(both, WINDOW) if "use the HSE06 gap" in note)
    assert "HSE06" in basis and "PBE" in basis and basis in page
    mixed = screened(to_frame([row(1, "a", **level, pbe_gap_ev=1.25), row(2, "b")], FIELDS))
    assert sum("lie below measured" in note for note in notes(mixed, WINDOW)) == 1
    assert "<dt>PBE gap ± spread" not in screening_page(screened(to_frame([row(1)])), "t")


@pytest.mark.parametrize(
    ("key", "others"),
    [(MODEL_DIGEST, ["qmof-hse06"]), (SECOND_LEVEL_MODEL, ["qmof-pbe"]), ("date", [])],
)
def test_the_card_of_another_model_of_the_name_is_left_out(key: str, others: list[str]) -> None:
    frame = to_frame([row(1, model="qmof-hse06", pbe_gap_ev=1.0, pbe_gap_std_ev=0.5)], FIELDS)
    frame.attrs[ATTRIBUTE] = {key: "0" * 64}
    page = screening_page(screened(frame), "t")
    said = [note for note in notes(screened(frame), None) if "another model" in note]
    assert len(said) == len(others) and all(name in note for name, note in zip(others, said, strict=True))
    for name in ("qmof-hse06", "qmof-pbe"):
        assert (f"Model card of {name}" in page) == (name not in others)


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("qmof-1 (SAHYIK, 3.44 eV)", ("SAHYIK", "qmof-1", "3.44 eV")),
        ("qmof-1 (SAHYIK)", ("SAHYIK", "qmof-1", "")),
        ("qmof-1 (3.44 eV)", ("qmof-1", "", "3.44 eV")),
        ("x (a (b), 1.00 eV)", ("a (b)", "x", "1.00 eV")),
        ("qmof-1", ("qmof-1", "", "")),
    ],
)
def test_neighbours_are_told_by_name_identifier_and_gap(cell: str, found: tuple[str, str, str]) -> None:
    assert neighbours_of(cell) == [found]
    assert neighbours_of(f"{cell} | qmof-9") == [found, ("qmof-9", "", "")]


def test_notes_are_told_from_warnings_and_ids_are_not_broken() -> None:
    rows = [row(1, warnings="open-shell-metal: Fe | novel: far", nearest="qmof-1 (SAHYIK, 3.44 eV) | qmof-2")]
    page = screening_page(screened(to_frame(rows)), "t")
    assert '<li class="note"><b>open-shell-metal</b>' in page and "<li><b>novel</b>" in page
    assert "<b>SAHYIK</b> <small>qmof-1</small> <span>3.44 eV</span>" in page
    assert "<b>qmof-2</b> <small></small> <span>gap not known</span>" in page
    names = json.loads(re.search(r'"notes":(\[[^]]*\])', page)[1])  # type: ignore[index]
    assert '"known":["in-training","same-refcode"]' in page.replace(", ", ",").replace(": [", ":[")
    assert names == sorted(NOTES) and {"in-training", "hydrogen-lengths"} <= set(names)


def test_elements_and_warnings_are_read_from_their_texts() -> None:
    assert symbols_of("C24H12O13Zn4") == ["C", "H", "O", "Zn"] and symbols_of("Qq2<b>") == []
    counts = element_counts(pd.Series(["C2H2", "CO", None, ""]))
    assert counts == {"C": 2, "H": 1, "O": 1}
    cells = {cell.symbol: cell for cell in periodic_table(counts)}
    assert (cells["H"].row, cells["H"].column, cells["O"].column, cells["Zn"].column) == (1, 1, 16, 12)
    assert cells["C"].shade > cells["H"].shade > cells["He"].shade == 0
    assert len({(cell.row, cell.column) for cell in cells.values()}) == len(cells)
    assert warnings_of("a: b: c | d") == [("a", "b: c"), ("d", "")] and warnings_of(None) == []


def test_screened_needs_its_columns() -> None:
    with pytest.raises(ScreeningTableError, match="gap_std_ev"):
        screened(to_frame(ROWS).drop(columns="gap_std_ev"))
    table = screened(to_frame(ROWS))
    assert isinstance(table, Screened) and len(table.ranked) == 2 and len(table.failed) == 1


def test_a_table_without_a_name_or_with_a_column_twice_is_no_crash(tmp_path: Path) -> None:
    frame = to_frame(ROWS)
    frame.loc[frame.index[0], ["file", "structure_id"]] = None
    write_report(tmp_path / "page.html", frame)
    with pytest.raises(ScreeningTableError, match="gap_ev occurs twice"):
        screened(pd.concat([frame, frame[["gap_ev"]]], axis=1))
