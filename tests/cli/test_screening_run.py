from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from mofgap.cli.screening_run import _read_once, _say_counts, _show, checked_target, conclude, say_written
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.outcome import Outcome
from mofgap.screening.row import Row
from mofgap.screening.run import ScreeningRun
from mofgap.screening.shard import Shard


def test_what_can_be_read_once_is_not_counted_first(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a.cif\n")
    assert not _read_once(f"@{names}") and not _read_once(str(names))
    ends = os.pipe()
    assert _read_once(f"@/dev/fd/{ends[0]}") and _read_once("-") and _read_once("a.tar.xz")
    for end in ends:
        os.close(end)


def test_without_a_window_the_next_command_is_one_that_needs_none(capsys: pytest.CaptureFixture[str]) -> None:
    say_written(Path("t.csv"), has_window=False)
    assert "mofgap select t.csv --goal explore" in capsys.readouterr().err
    say_written(Path("t.csv"))
    assert "explore" not in capsys.readouterr().err
    say_written(Path("my table.csv"))
    words = capsys.readouterr().err
    assert "mofgap report 'my table.csv' (" in words and "mofgap select 'my table.csv' (" in words


def test_the_next_command_names_a_model_that_is_not_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    for model, words in (("my runs/model", " --model 'my runs/model' ("), ("qmof-pbe", " ("), (None, " (")):
        say_written(Path("t.csv"), model=model)
        assert f"mofgap select t.csv{words}" in capsys.readouterr().err


def test_a_failure_is_named_by_its_file_and_by_its_block_where_the_file_does_not_say_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [Row(None, "MOF.cif.gz", "MOF", "failed", "x"), Row(None, "MOF-12.cif", "MOF-1", "failed", "x")]
    _say_counts(Outcome.of(rows), "")
    assert capsys.readouterr().err.startswith("failed: MOF.cif.gz: x\nfailed: MOF-12.cif [MOF-1]: x\n")


def test_a_terminal_shows_all_rows_of_the_ranks_that_were_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of a structure share a rank."""
    numbers = {"formula": "ZnO", "gap_std_ev": 0.1, "aleatoric_std_ev": 0.1, "novelty": 0.5, "nearest": "n"}
    gaps = {"first": 1.0, "copy": 1.0, "second": 2.0, "third": 3.0}
    rows = [Row(None, f"{name}.cif", name, "ok", gap_ev=gap, **numbers) for name, gap in gaps.items()]
    run = ScreeningRun((), ScreeningConfig(top=2), None, None)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _show(run, [(row,) for row in rows], as_json=False)
    printed = capsys.readouterr().out
    assert "second" in printed and "third" not in printed and "more" not in printed


def test_a_share_of_failures_alone_is_done() -> None:
    outcome = Outcome.of([Row(None, "MOF.cif", "MOF", "failed", "x")])
    codes = []
    for shard in (None, Shard(1, 2)):
        with pytest.raises(typer.Exit) as ended:
            conclude(outcome, "keep", "keep", None, shard=shard, has_window=True)
        codes.append(ended.value.exit_code)
    assert codes == [1, 3]


def test_nothing_is_next_where_everything_failed(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome.of([Row(None, "MOF.cif", "MOF", "failed", "x")])
    with pytest.raises(typer.Exit):
        conclude(outcome, "keep", "keep", Path("t.csv"), has_window=True)
    words = capsys.readouterr().err
    assert "wrote t.csv, with a reason for each" in words and "next:" not in words


def test_resuming_a_complete_shard_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard, table = Shard(1, 2), tmp_path / "t.csv"
    shard.path(table).write_text("mine")
    with pytest.raises(typer.Exit) as ended:
        checked_target(table, shard, resume=True, force=False)
    assert ended.value.exit_code == 0 and "is complete" in capsys.readouterr().err
    assert shard.path(table).read_text() == "mine"


def test_a_page_does_not_overwrite_a_table_of_its_rows(tmp_path: Path) -> None:
    page, rows = tmp_path / "page.html", tmp_path / "page.rows.csv"
    rows.write_text("mine")
    with pytest.raises(typer.BadParameter, match=r"page\.rows\.csv exists"):
        checked_target(page, None, resume=False, force=False)
    assert checked_target(page, None, resume=False, force=True) == page
    assert checked_target(page, None, resume=True, force=False) == page
    assert checked_target(tmp_path / "page.csv", None, resume=False, force=False)
