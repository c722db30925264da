from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from mofgap.screening.row import Row
from mofgap.screening.terminal import axis, axis_end, bar, render

ROW = Row(
    1,
    "f.cif",
    "[red]s[/red]",
    "warning",
    "",
    "C",
    5,
    2.0,
    0.5,
    None,
    0.5,
    1.0,
    3.0,
    0.25,
    0.5,
    "novel: x | b: y",
)


def shown(rows: list[Row], window: tuple[float, float] | None, n_shown: int = 50) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    render(console, rows, window, n_shown)
    return console.file.getvalue()


def test_bar_spans_the_interval_on_the_axis() -> None:
    text = bar(ROW, None, 4.0, 40).plain
    assert len(text) == 40
    assert text.index("━") == 10 and text.rindex("━") == 30 and text.index("●") == 20
    assert set(text[:10]) == {" "}


def test_window_is_shaded_outside_the_interval() -> None:
    text = bar(ROW, (0.0, 2.0), 4.0, 40).plain
    assert text[:10] == "░" * 10
    assert "░" not in text[10:]
    # Narrower than a character, or open above.
    assert "░" in bar(ROW, (0.51, 0.52), 4.0, 40).plain
    assert bar(ROW, (3.5, float("inf")), 4.0, 40).plain.endswith("░" * 5)


def test_two_levels_stand_side_by_side() -> None:
    both = replace(ROW, level_of_theory="HSE06 at PBE geometry", pbe_gap_ev=0.75, pbe_gap_std_ev=0.25)
    head, line, *_ = shown([both], (1.8, 3.0)).splitlines()
    assert head.index("HSE06 / eV") < head.index("PBE / eV") < head.index("in window")
    assert "gap / eV" not in head and line.index("2.00 ± 0.50") < line.index("0.75 ± 0.25")
    assert len(line) <= 120


def test_axis_holds_every_interval() -> None:
    assert axis_end([ROW, replace(ROW, gap_hi90_ev=5.2)]) == 6
    assert axis_end([replace(ROW, gap_hi90_ev=0.0)]) == 1
    assert axis(6, 20).plain == "0" + "6 eV".rjust(19)


def test_table_shows_ranked_rows_and_says_what_it_leaves_out() -> None:
    rows = [replace(ROW, rank=i) for i in range(1, 6)] + [Row(None, "f.cif", "bad", "failed", "why")]
    text = shown(rows, (1.8, 3.0), n_shown=2)
    assert text.count("2.00 ± 0.50") == 2 and "3 more" in text and "bad" not in text
    assert "[red]s[/red]" in text, "markup in a name is text"
    assert "novel, b" in text and "25%" in text
    assert "in window" not in shown(rows, None)
    assert shown(rows[-1:], None) == ""


def test_a_narrow_terminal_keeps_the_names() -> None:
    row = replace(ROW, structure_id="MOF-74-Zn_FIJDOS", level_of_theory="HSE06", pbe_gap_ev=1.0)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    render(console, [row], (1.8, 3.0))
    text = console.file.getvalue()
    assert "formula" not in text and "MOF-74-Zn_FI" in text
    assert len(text.splitlines()) <= 4


def test_a_narrow_terminal_keeps_the_names_of_warnings() -> None:
    name = "2019-ASR_cg0505814_si_001_clean"
    row = replace(ROW, structure_id=name, level_of_theory="HSE06", pbe_gap_ev=1.0)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    render(console, [replace(row, warnings="missing-hydrogens: x | open-shell-metal: y")], (1.8, 3.0))
    lines = console.file.getvalue().splitlines()
    assert any("missing-hydrogens," in line for line in lines) and all(len(line) <= 80 for line in lines)
    assert name in "".join(line[3:22].strip() for line in lines[1:]), "a long name is folded, not cut"


def test_a_note_that_the_gap_may_be_known_is_named() -> None:
    notes = "bond-lengths: a | same-refcode: b | open-shell-metal: c"
    assert "same-refcode, 2 notes" in " ".join(shown([replace(ROW, warnings=notes)], None).split())


def test_the_table_says_where_the_texts_are() -> None:
    assert "-o FILE" in shown([ROW], None) and "-o FILE" not in shown([replace(ROW, warnings="")], None)


def test_a_very_narrow_terminal_keeps_the_error_bar() -> None:
    row = replace(ROW, structure_id="MOF-74-Zn_FIJDOS", level_of_theory="HSE06", pbe_gap_ev=1.0)
    console = Console(file=io.StringIO(), width=44, color_system=None)
    render(console, [row], (1.8, 3.0))
    assert "2.00 ± 0.50" in console.file.getvalue()
