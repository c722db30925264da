"""Shards of a screening, and the table they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.cli.screening_run import PBE_CAVEAT
from mofgap.screening import gather as gathering
from mofgap.screening.gather import gather
from mofgap.screening.shard import ShardError
from mofgap.screening.table import read_table

WriteMixed = Callable[[Path, int], Path]
OPTIONS = ["--window", "1.8", "3.0", "--top", "4", "--novelty", "last"]


def mofgap(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "400"}).invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def cifs(tmp_path_factory: pytest.TempPathFactory, write_mixed: WriteMixed) -> Path:
    folder = write_mixed(tmp_path_factory.mktemp("cifs"), 6)
    (folder / "a.cif").write_text("")
    return folder


@pytest.mark.parametrize(
    ("ending", "n_shards", "extra"),
    [(".csv", 1, ()), (".json", 4, ("--uncertainty", "weights", "--samples", "3")), (".parquet", 12, ())],
)
def test_sharded_is_unsharded_bit_for_bit(
    tmp_path: Path, cifs: Path, model_folder: Path, ending: str, n_shards: int, extra: tuple[str, ...]
) -> None:
    whole, gathered = tmp_path / f"whole{ending}", tmp_path / f"gathered{ending}"
    arguments = ["screen", cifs, "--model", model_folder, *OPTIONS, *extra, "-o"]
    done = mofgap(*arguments, whole)
    for i in range(n_shards):
        assert mofgap(*arguments, tmp_path / f"t{ending}", "--shard", f"{i + 1}/{n_shards}").exit_code in (
            0,
            1,
            3,
        )
    shards = sorted(tmp_path.glob("*.jsonl"), reverse=True)
    assert len(shards) == n_shards
    found = mofgap("gather", *shards, "-o", gathered)
    assert found.exit_code == done.exit_code == 3
    assert gathered.read_bytes() == whole.read_bytes()
    assert "10 structures" in found.output.replace(" of ", " ") and "3 failed" in found.output
    assert PBE_CAVEAT in done.output and PBE_CAVEAT in found.output
    assert f"mofgap select {gathered} --model FOLDER (" in found.output


def test_a_shard_is_not_overwritten_by_its_table(tmp_path: Path, cifs: Path, model_folder: Path) -> None:
    assert (
        mofgap("screen", cifs, "--model", model_folder, "-o", tmp_path / "t.csv", "--shard", "1/1").exit_code
        == 3
    )
    (shard,) = tmp_path.glob("*.jsonl")
    renamed = shard.rename(tmp_path / "shard.json")
    before = renamed.read_bytes()
    found = mofgap("gather", renamed, "-o", renamed, "--force")
    assert found.exit_code == 2 and "shard.json is an input" in found.output
    assert renamed.read_bytes() == before


def test_the_next_command_needs_no_model_where_a_shipped_one_made_the_shards(
    tmp_path: Path, cifs: Path
) -> None:
    table = tmp_path / "t.csv"
    mofgap("screen", cifs, "-o", table, "--shard", "1/1")
    found = mofgap("gather", *tmp_path.glob("*.jsonl"), "-o", table)
    assert f"mofgap select {table} --goal explore (" in found.output


def test_shards_of_a_listing_make_the_same_table(tmp_path: Path, cifs: Path, model_folder: Path) -> None:
    options = ["--model", model_folder, *OPTIONS]
    mofgap("screen", cifs, *options, "-o", tmp_path / "whole.csv")
    table = tmp_path / "gaps.csv"
    assert mofgap("screen", cifs, "-o", table, "--list", 2).exit_code == 0
    listing = tmp_path / "gaps.csv.inputs"
    other = mofgap("screen", listing, *options, "-o", table, "--shard", "1/3")
    assert other.exit_code == 1 and "list the inputs again" in other.output
    assert not list(tmp_path.glob("*.partial.jsonl"))  # nothing was begun that a next start would go on with
    for i in (1, 2):
        mofgap("screen", listing, *options, "-o", table, "--shard", f"{i}/2")
    assert mofgap("gather", *tmp_path.glob("*.jsonl"), "-o", table).exit_code == 3
    assert table.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    for wrong in (["--shard", "1/2"], ["--json"], ["--window", 3, 1]):
        refused = mofgap("screen", cifs, "-o", tmp_path / "other.csv", "--list", 2, *wrong)
        assert refused.exit_code == 2 and not (tmp_path / "other.csv.inputs").exists()
    again = mofgap("screen", cifs, "-o", table, "--list", 2)
    assert again.exit_code == 2 and "gaps.csv.inputs exists" in again.output
    whole = mofgap("screen", listing, "--model", model_folder)
    assert whole.exit_code == 1 and "--shard I/N" in whole.output


def test_a_table_in_parts_is_the_table(tmp_path: Path, shards: list[Path]) -> None:
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    mofgap("gather", *shards, "-o", whole)
    for _ in range(2):  # what was there is replaced
        assert mofgap("gather", *shards, "-o", parts, "--part-rows", 4, "--force").exit_code == 3
    assert [len(pd.read_parquet(part)) for part in sorted(parts.iterdir())] == [4, 4, 2]
    pd.testing.assert_frame_equal(read_table(parts), read_table(whole))
    assert mofgap("report", parts, "-o", tmp_path / "t.html").exit_code == 0
    assert mofgap("gather", *shards, "-o", parts, "--part-rows", 4).exit_code == 2
    (tmp_path / "page.rows.csv").write_text("mine")
    assert "page.rows.csv exists" in mofgap("gather", *shards, "-o", tmp_path / "page.html").output
    refused = mofgap("gather", *shards, "-o", tmp_path / "t.csv", "--part-rows", 4)
    assert refused.exit_code == 2 and "NAME.parquet" in refused.output


def test_novel_structures_that_were_dropped_are_counted(
    tmp_path: Path, cifs: Path, model_folder: Path
) -> None:
    (tmp_path / "co.cif").write_text((cifs / "s0.cif").read_text().replace("Zn", "Co"))
    arguments = ["screen", tmp_path, "--model", model_folder, "--novelty", "drop", "-o", tmp_path / "t.csv"]
    done = mofgap(*arguments)
    mofgap(*arguments, "--shard", "1/1")
    found = mofgap("gather", *tmp_path.glob("*.jsonl"), "-o", tmp_path / "t.csv", "--force")
    (said,) = (line for line in done.output.splitlines() if "(--novelty drop)" in line)
    assert said in found.output.splitlines()


def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    refused = {
        "no-folder/t.csv": "there is no folder",
        "folder.csv": "is a folder; name",
        "loop.csv": "Too many levels of symbolic links; check the path",
    }
    for name, words in refused.items():
        found = mofgap("gather", tmp_path / "no.jsonl", "-o", tmp_path / name, "--force")
        assert found.exit_code == 2 and words in found.output


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, cifs: Path, model_folder: Path) -> list[Path]:
    output = tmp_path_factory.mktemp("shards") / "gaps.csv"
    for i in (1, 2, 3):
        mofgap("screen", cifs, "--model", model_folder, "-o", output, "--shard", f"{i}/3")
    return sorted(output.parent.glob("gaps.csv.shard-*-of-3.jsonl"))


def test_a_whole_needs_each_shard_once(tmp_path: Path, shards: list[Path]) -> None:
    table = tmp_path / "gaps.csv"
    missing = mofgap("gather", *shards[:2], "-o", table)
    assert missing.exit_code == 1 and "of 3 shards these are missing: 3" in missing.output
    twice = mofgap("gather", *shards, shards[0], "-o", table)
    assert twice.exit_code == 1 and "are the same shard" in twice.output
    assert not table.exists()


def test_shards_read_side_by_side_make_the_same_table(
    tmp_path: Path, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gather(shards, tmp_path) as found:
        alone = found.outcome, list(found.rows())
    monkeypatch.setattr(gathering, "MIN_PARALLEL_BYTES", 0)
    monkeypatch.setattr(gathering, "usable_cores", lambda: 2)
    with gather(shards[::-1], tmp_path) as found:
        assert (found.outcome, list(found.rows())) == alone
    cut = tmp_path / shards[0].name
    cut.write_bytes(b"".join(shards[0].read_bytes().splitlines(keepends=True)[::2]))
    with pytest.raises(ShardError, match=cut.name), gather([cut, *shards[1:]], tmp_path):
        pass
    assert list(tmp_path.iterdir()) == [cut]


def test_shards_of_an_earlier_version_are_refused_with_the_cure(tmp_path: Path, shards: list[Path]) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text('{"version":1,"shard":[1,3],"seed":0}\n[]\n{"n_inputs":1,"names_sha256":""}\n')
    found = mofgap("gather", old, *shards[1:], "-o", tmp_path / "t.csv")
    assert found.exit_code == 1 and "earlier mofgap" in found.output and "make it again" in found.output


def test_no_flipped_bit_of_a_shard_is_believed(tmp_path: Path, shards: list[Path]) -> None:
    whole, damaged = bytearray(shards[0].read_bytes()), tmp_path / shards[0].name
    for bit in range(0, 8 * len(whole), 151):
        whole[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(whole)
        whole[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ShardError, match="make it again"), gather([damaged, *shards[1:]]):
            pass


def test_shards_of_other_settings_or_inputs_are_refused(
    tmp_path: Path, cifs: Path, model_folder: Path, shards: list[Path]
) -> None:
    mofgap("screen", cifs, "--model", model_folder, "--top", "2", "-o", tmp_path / "a.csv", "--shard", "3/3")
    mofgap("screen", cifs / "s0.cif", "--model", model_folder, "-o", tmp_path / "b.csv", "--shard", "3/3")
    for name, what in {"a.csv": "top None and 2", "b.csv": "n_inputs 9 and 1"}.items():
        (other,) = tmp_path.glob(f"{name}.shard*")
        found = mofgap("gather", *shards[:2], other, "-o", tmp_path / "t.csv")
        assert found.exit_code == 1 and "are of different screenings" in found.output and what in found.output


def test_a_shard_that_was_cut_off_is_refused(tmp_path: Path, shards: list[Path]) -> None:
    lines = shards[0].read_bytes().splitlines(keepends=True)
    for kept in ([], lines[:-1], [*lines[:-2], lines[-1]], [b"".join(lines)[:-20]]):
        cut = tmp_path / shards[0].name
        cut.write_bytes(b"".join(kept))
        found = mofgap("gather", cut, *shards[1:], "-o", tmp_path / "t.csv")
        assert found.exit_code == 1 and str(cut) in found.output and "make it again" in found.output


def test_a_shard_is_resumed_and_never_overwritten(
    tmp_path: Path, cifs: Path, model_folder: Path, shards: list[Path]
) -> None:
    output = tmp_path / "gaps.csv"
    arguments = ["screen", cifs, "--model", model_folder, "-o", output, "--shard", "1/3"]
    mofgap(*arguments)
    assert (tmp_path / shards[0].name).read_bytes() == shards[0].read_bytes()
    again = mofgap(*arguments)
    assert again.exit_code == 2 and "exists" in again.output
    assert not output.exists()


def test_force_keeps_a_table_where_nothing_could_be_predicted(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "bad.cif").write_text("")
    arguments = ["screen", tmp_path / "bad.cif", "--model", model_folder, "-o", tmp_path / "t.csv"]
    assert mofgap(*arguments, "--shard", "1/1").exit_code == 3
    (tmp_path / "t.csv").write_text("mine")
    found = mofgap("gather", *tmp_path.glob("*.jsonl"), "-o", tmp_path / "t.csv", "--force")
    assert found.exit_code == 1 and "is kept as it was" in found.output
    assert (tmp_path / "t.csv").read_text() == "mine"


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_no_such_shard(tmp_path: Path, text: str) -> None:
    found = mofgap("screen", "x.cif", "-o", tmp_path / "t.csv", f"--shard={text}")
    assert found.exit_code == 2 and "shard" in found.output


def test_a_shard_needs_an_output() -> None:
    found = mofgap("screen", "x.cif", "--shard", "1/2")
    assert found.exit_code == 2 and "--shard" in found.output
