"""``mofgap screen --level``, from options to files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.gap.folder import read_model, save_model
from mofgap.screening.checked_line import content_of
from mofgap.screening.levels import MODELS
from mofgap.screening.row import column_names

WriteMixed = Callable[[Path, int], Path]
OPTIONS = ["--level", "both", "--window", "1.8", "3.0", "--coverage", "0.95"]
pytestmark = pytest.mark.usefixtures("levels")


def mofgap(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def cifs(tmp_path_factory: pytest.TempPathFactory, write_mixed: WriteMixed) -> Path:
    return write_mixed(tmp_path_factory.mktemp("cifs"), 5)


def test_a_pipe_gets_every_column(cifs: Path) -> None:
    done = mofgap("screen", cifs, *OPTIONS)
    assert done.exit_code == 3
    head, *lines = (line.split("\t") for line in done.stdout.splitlines())
    assert head == column_names(0.95, two_levels=True) and {len(line) for line in lines} == {len(head)}
    first, last = (dict(zip(head, line, strict=True)) for line in (lines[0], lines[-1]))
    assert first["model"] == "tiny-hse" and float(first["pbe_gap_ev"]) != float(first["gap_ev"])
    assert last["status"] == "failed" and last["pbe_gap_hi95_ev"] == ""


def test_each_level_says_what_it_is(cifs: Path) -> None:
    said = {level: mofgap("screen", cifs / "s0.cif", "--level", level) for level in ("pbe", "hse06", "both")}
    assert "below measured" in said["pbe"].stderr and "--level hse06" in said["pbe"].stderr
    for level, written in ((None, ()), ("hse06", ("--level", "HSE06"))):
        assert said[level or "both"].stdout == mofgap("screen", cifs / "s0.cif", *written).stdout
    for level in ("hse06", "both"):
        assert said[level].exit_code == 0 and "below measured" not in said[level].stderr
    basis = {level: done.stderr.count("use the HSE06 gap") for level, done in said.items()}
    assert basis == {"pbe": 0, "hse06": 0, "both": 1}
    # Each model is vouched for by itself; only that of PBE is raw here.
    raw = {level: done.stderr.count("is not calibrated") for level, done in said.items()}
    assert raw == {"pbe": 1, "hse06": 0, "both": 1} and "tiny is not calibrated" in said["both"].stderr


def test_sharded_is_unsharded_bit_for_bit(tmp_path: Path, cifs: Path) -> None:
    whole, gathered = tmp_path / "whole.csv", tmp_path / "gathered.csv"
    assert mofgap("screen", cifs, *OPTIONS, "-o", whole).exit_code == 3
    for i in (1, 2, 3):
        mofgap("screen", cifs, *OPTIONS, "-o", tmp_path / "t.csv", "--shard", f"{i}/3")
    assert mofgap("gather", *tmp_path.glob("*.jsonl"), "-o", gathered).exit_code == 3
    assert gathered.read_bytes() == whole.read_bytes()
    assert b"pbe_gap_hi95_ev" in whole.read_bytes()


def test_html_is_the_report_and_json_is_the_table(tmp_path: Path, cifs: Path) -> None:
    page = tmp_path / "page.html"
    done = mofgap("screen", cifs, *OPTIONS, "-o", page, "--json")
    assert done.exit_code == 3 and f"wrote {page}; next: " in done.stderr
    text = page.read_text("utf-8")
    assert "$3Dmol" in text and "Ranked table" in text and "tiny-hse" in text
    rows = json.loads(done.stdout)
    assert rows[0]["rank"] == 1
    assert "pbe_gap_hi95_ev" in rows[0]


def test_a_shard_of_one_level_is_no_shard_of_two(tmp_path: Path, cifs: Path) -> None:
    for level, shard in (("both", "1/2"), ("hse06", "2/2")):
        mofgap("screen", cifs, "--level", level, "-o", tmp_path / "t.csv", "--shard", shard)
    found = mofgap("gather", *tmp_path.glob("*.jsonl"), "-o", tmp_path / "t.csv")
    assert found.exit_code == 1 and "of different screenings: second_level_sha256" in found.output


def test_a_run_that_was_cut_off_goes_on_to_the_same_bytes(
    tmp_path: Path, cifs: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole.csv", tmp_path / "out.csv"
    mofgap("screen", cifs, *OPTIONS, "-o", whole)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("mofgap.cli.screening_run.write_table", full)
        assert mofgap("screen", cifs, *OPTIONS, "-o", output).exit_code == 1
    journal = tmp_path / "out.csv.partial.jsonl"
    header, *lines = journal.read_bytes().splitlines(keepends=True)
    finished = [line for line in lines if b'"rows"' in line]
    assert content_of(finished[0])["rows"][0]["pbe_gap_ev"] is not None
    journal.write_bytes(b"".join([header, *finished[:3]]) + finished[3][:30])

    for other in (["--level", "hse06", *OPTIONS[2:]], ["--level", "pbe", *OPTIONS[2:]]):
        refused = mofgap("screen", cifs, *other, "-o", output, "--resume")
        assert refused.exit_code == 2 and "_sha256: another model" in refused.output
    # Another model of the second level is another run, as another first one is.
    changed = tmp_path / "changed"
    model, about, calibration, novelty = read_model(model_folder)
    model.gap_mean_ev.add_(1.0)
    save_model(changed, model, about, calibration, novelty)
    with monkeypatch.context() as patched:
        patched.setitem(MODELS, "pbe", str(changed))
        refused = mofgap("screen", cifs, *OPTIONS, "-o", output, "--resume")
        assert refused.exit_code == 2 and "second_level_sha256" in refused.output

    done = mofgap("screen", cifs, *OPTIONS, "-o", output, "--resume")
    assert done.exit_code == 3 and "3 inputs done before" in done.stderr
    assert output.read_bytes() == whole.read_bytes() and not journal.exists()


def test_coverage_is_what_both_models_can_give(tmp_path: Path, cifs: Path, hse_folder: Path) -> None:
    wide = mofgap("screen", cifs, "--level", "hse06", "--coverage", "0.99")
    assert wide.exit_code == 2 and "tiny-hse" in wide.output and "residuals give" in wide.output


def test_wrong_usage_says_why(cifs: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for level in ("pbe", "hse06", "both"):
        done = mofgap("screen", cifs, "--level", level, "--model", model_folder)
        assert (
            done.exit_code == 2 and "--level" in done.output and "a level or a model, not both" in done.output
        )
    unknown = mofgap("screen", cifs, "--level", "pbe0")
    assert unknown.exit_code == 2 and "pbe0" in unknown.output
    monkeypatch.setitem(MODELS, "hse06", "qmof-hse07")
    missing = mofgap("screen", cifs, "--level", "both")
    assert missing.exit_code == 1 and "qmof-hse07: neither" in missing.output


def test_a_table_of_two_levels_can_be_reported_and_selected_from(
    tmp_path: Path, cifs: Path, hse_folder: Path
) -> None:
    table = tmp_path / "t.csv"
    mofgap("screen", cifs, *OPTIONS, "-o", table)
    page = mofgap("report", table, "-o", tmp_path / "t.html")
    assert page.exit_code == 0 and "PBE gap ± spread" in (tmp_path / "t.html").read_text("utf-8")
    chosen = mofgap("select", table, "--model", hse_folder, "-o", tmp_path / "next")
    assert chosen.exit_code == 0, chosen.output
    assert set(pd.read_csv(tmp_path / "next" / "selection.csv").model) == {"tiny-hse"}
