from __future__ import annotations

import glob
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.study.engine.config import RunConfig, ShardedScreening
from mofgap.study.engine.folder import RunError, RunFolder, fingerprint
from mofgap.study.engine.screening import screening_stages
from mofgap.study.engine.stage import Stage, reason_to_run, run_stage

CONFIG = RunConfig("x", screening=ShardedScreening(inputs=("none.cif",)))


def _no_locks(*_: object) -> None:
    raise OSError(37, "No locks available")


class Bench:
    """A run folder with stages that append to what they find, so that what was done shows."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.source = path / "source.txt"
        self.source.write_text("1")
        self.fails = False

    def first(self, **changes: Any) -> Stage:
        stage = self._stage("first", self._write_first, "first/**")
        return replace(stage, **({"files": (str(self.source),)} | changes))

    def second(self) -> Stage:
        return replace(self._stage("second", self._write_second, "second.txt"), after=("first",))

    def _stage(self, rule: str, work: Callable[[RunConfig, Path], None], writes: str) -> Stage:
        return Stage(rule, work, {"epochs": 1}, ("mofgap.study.engine.sources",), (writes,))

    def _write_first(self, config: RunConfig, run: Path) -> None:
        path = run / "first/out.txt"
        path.parent.mkdir(exist_ok=True)
        checkpoint = run / "first/checkpoint"
        if self.fails:
            checkpoint.write_text("half")
            raise RuntimeError("killed")
        begun = checkpoint.read_text() if checkpoint.exists() else "new"
        checkpoint.unlink(missing_ok=True)
        path.write_text(f"{begun} {self.source.read_text().strip()}")

    def describe_first(self, config: RunConfig, run: Path) -> None:
        (run / "first/out.txt").write_text(f"{self.out()}, described")

    def _write_second(self, config: RunConfig, run: Path) -> None:
        (run / "second.txt").write_text((run / "first/out.txt").read_text())

    def do(self, *stages: Stage) -> list[bool]:
        for stage in stages:
            self.folder.write_request(stage.name, stage.request())
        return [run_stage(stage, CONFIG, self.folder, threads=1) for stage in stages]

    def reason(self, stage: Stage) -> str:
        return reason_to_run(stage, self.folder, stage.request())

    def out(self) -> str:
        return (self.folder.path / "first/out.txt").read_text()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_stage_is_done_once(bench: Bench) -> None:
    assert bench.reason(bench.first()) == "never ran"
    assert bench.do(bench.first(), bench.second()) == [True, True]
    assert bench.reason(bench.first()) == ""
    assert bench.do(bench.first(), bench.second()) == [False, False]
    record = bench.folder.record("first")
    assert record["outputs"] == {"first/out.txt": fingerprint(str(bench.folder.path / "first/out.txt"))}
    assert (
        record["cost"]["seconds"] >= 0
        and record["cost"]["peak_memory_mb"] > 0
        and record["end"] >= record["start"]
    )


def test_a_changed_setting_repeats_it_and_what_reads_it(bench: Bench) -> None:
    bench.do(bench.first(), bench.second())
    (bench.folder.path / "first/stale").touch()
    changed = bench.first(settings={"epochs": 2})
    assert bench.reason(changed) == "configuration changed: epochs"
    # What comes out is the same, so what reads it need not run again.
    assert bench.do(changed, bench.second()) == [True, False]
    assert not (bench.folder.path / "first/stale").exists()
    assert (bench.folder.path / "stale/first/1/first/stale").exists()


def test_a_changed_description_repeats_it_over_what_is_there(bench: Bench) -> None:
    bench.do(bench.first())
    (bench.folder.path / "first/checkpoint").write_text("kept")
    changed = bench.first(describes={"citation": "someone"}, describe=bench.describe_first)
    assert bench.reason(changed) == "only described anew: citation changed"
    assert bench.reason(bench.first(describes={"citation": "someone"})) == "configuration changed: citation"
    assert bench.do(changed) == [True] and bench.out() == "new 1, described"
    assert (bench.folder.path / "first/checkpoint").exists()
    assert bench.do(changed) == [False] and bench.reason(changed) == ""
    (bench.folder.path / "first/out.txt").write_text("tampered")
    another = bench.first(describes={"citation": "another"}, describe=bench.describe_first)
    assert bench.do(another) == [True] and bench.out() == "new 1"


def test_a_description_that_was_cut_off_is_written_again_and_nothing_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.do(bench.first())
    changed = bench.first(describes={"citation": "someone"}, describe=bench.describe_first)
    write = RunFolder.write_record

    def cut_off(folder: RunFolder, stage: str, record: dict[str, Any]) -> None:
        if "cost" in record and not record.get("describing"):
            raise KeyboardInterrupt
        write(folder, stage, record)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "write_record", cut_off)
        bench.do(changed)
    assert bench.reason(changed) == "was cut off while it was described anew"
    lost = bench.folder.path / "first/out.txt"
    text = lost.read_text()
    lost.unlink()
    assert bench.reason(changed) == "output changed or gone: first/out.txt"
    lost.write_text(text)
    assert bench.do(changed) == [True] and bench.out().startswith("new 1, described")
    assert not (bench.folder.path / "stale").exists()
    assert bench.do(changed) == [False]


def test_what_was_cut_off_says_what_is_asked_now(bench: Bench) -> None:
    bench.fails = True
    with pytest.raises(RuntimeError):
        bench.do(bench.first(describes={"citation": "old"}, describe=bench.describe_first))
    bench.fails = False
    changed = bench.first(describes={"citation": "new"}, describe=bench.describe_first)
    assert bench.do(changed) == [True] and bench.out().endswith(", described")
    assert bench.do(changed) == [False]


def test_a_changed_input_repeats_it_and_what_reads_it(bench: Bench) -> None:
    bench.do(bench.first(), bench.second())
    bench.source.write_text("2")
    assert bench.reason(bench.first()) == f"input changed: {bench.source}"
    assert bench.do(bench.first(), bench.second()) == [True, True]
    assert (bench.folder.path / "second.txt").read_text() == "new 2"


def test_an_input_that_only_moved_repeats_nothing(bench: Bench) -> None:
    bench.do(bench.first())
    moved = bench.source.rename(bench.source.with_name("moved.txt"))
    assert bench.reason(bench.first(files=(str(moved),))) == ""


def test_inputs_that_were_exchanged_are_others(bench: Bench) -> None:
    other = bench.source.with_name("other.txt")
    other.write_text("2")
    both = bench.first(files=(str(bench.source), str(other)))
    bench.do(both)
    bench.source.write_text("2")
    other.write_text("1")
    assert bench.reason(both).startswith("input changed") and bench.do(both) == [True]


def test_a_digest_of_content_does_not_stand_for_the_files_that_are_read(bench: Bench) -> None:
    second = replace(bench.second(), content=lambda config, run: "the same")
    bench.do(bench.first(), second)
    bench.source.write_text("2")
    assert bench.do(bench.first(), second) == [True, True]
    bench.source.write_text("3")
    assert bench.do(bench.first(), replace(second, reads=())) == [True, True]  # asked for something else
    bench.source.write_text("4")
    assert bench.do(bench.first(), replace(second, reads=())) == [True, False]


def test_changed_code_repeats_it(bench: Bench) -> None:
    bench.do(bench.first())
    other = bench.first(modules=("mofgap.study.engine.config",))
    assert bench.reason(other) == "code changed"
    assert bench.do(other) == [True]


@pytest.mark.parametrize("content", ["tampered", None])
def test_an_output_that_changed_or_is_gone_is_made_again(bench: Bench, content: str | None) -> None:
    bench.do(bench.first())
    out = bench.folder.path / "first/out.txt"
    out.unlink() if content is None else out.write_text(content)
    assert bench.reason(bench.first()) == "output changed or gone: first/out.txt"
    assert bench.do(bench.first()) == [True] and bench.out() == "new 1"


def test_a_damaged_record_is_said_and_moved_aside_with_what_it_described(bench: Bench) -> None:
    bench.do(bench.first())
    path = bench.folder.path / "stages/first.record.json"
    damaged = path.read_text().replace('"peak_memory_mb": ', '"peak_memory_mb": 1')
    path.write_text(damaged)
    assert bench.reason(bench.first()) == "its record is damaged"
    assert bench.do(bench.first()) == [True] and bench.reason(bench.first()) == ""
    kept = bench.folder.path / "stale/first/1"
    assert (kept / "damaged_record.json").read_text() == damaged
    assert (kept / "first/out.txt").exists()


def test_no_flipped_bit_of_what_a_stage_left_is_believed(bench: Bench) -> None:
    bench.do(bench.first(), bench.second())
    left = [path for path in bench.folder.path.rglob("*") if path.is_file() and path != bench.source]
    for path in left:
        whole = path.read_bytes()
        for bit in range(3, 8 * len(whole), 211):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            bench.do(bench.first(), bench.second())
            assert bench.out() == "new 1" and bench.do(bench.first(), bench.second()) == [False, False]
            known = [bench.folder.record(name)["outputs"] for name in ("first", "second")]
            assert all(map(bench.folder.intact, known)) and all(known)


def test_what_was_cut_off_goes_on_with_what_it_left(bench: Bench) -> None:
    bench.fails = True
    with pytest.raises(RuntimeError, match="killed"):
        bench.do(bench.first())
    assert bench.reason(bench.first()) == "was cut off"
    bench.fails = False
    assert bench.do(bench.first()) == [True] and bench.out() == "half 1"


def test_the_cost_of_all_starts_counts(bench: Bench) -> None:
    """Once a result is made anew, what earlier ones cost is none of its own."""
    bench.fails = True
    (bench.folder.path / "first").mkdir()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            bench.do(bench.first())
    bench.fails = False
    bench.do(bench.first())
    assert bench.folder.record("first")["cost"]["starts"] == 3
    seconds = [start["seconds"] for start in bench.folder.costs("first")]
    assert bench.folder.record("first")["cost"]["seconds"] == pytest.approx(sum(seconds), abs=1e-3)
    bench.source.write_text("2")
    bench.do(bench.first())
    assert bench.folder.record("first")["cost"]["starts"] == 1


def test_what_a_stage_cost_is_no_result_and_goes_with_it(bench: Bench) -> None:
    stage = bench.first(costs=("first/cost.json",))
    cost = bench.folder.path / "first/cost.json"
    bench.do(stage)
    cost.write_text("1 s")
    (bench.folder.path / "first/out.txt").unlink()
    bench.do(stage)
    assert not cost.exists() and (bench.folder.path / "stale/first/1/first/cost.json").exists()
    cost.write_text("2 s")
    assert "first/cost.json" not in bench.folder.record("first")["outputs"]
    assert bench.reason(stage) == ""


def test_what_was_cut_off_with_another_key_is_moved_aside(bench: Bench) -> None:
    bench.fails = True
    with pytest.raises(RuntimeError, match="killed"):
        bench.do(bench.first())
    bench.fails = False
    bench.source.write_text("2")
    assert bench.do(bench.first()) == [True] and bench.out() == "new 2"
    assert (bench.folder.path / "stale/first/1/first/checkpoint").read_text() == "half"


def test_a_stale_result_is_moved_aside_with_a_line_that_says_why(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.do(bench.first(), bench.second())
    for number, text in ((1, "2"), (2, "3")):
        bench.source.write_text(text)
        bench.do(bench.first(), bench.second())
        kept = bench.folder.path / f"stale/first/{number}"
        assert (kept / "first/out.txt").read_text() == f"new {number}"
        line = f"moved first to stale/first/{number}: input changed: {bench.source}"
        assert line in capsys.readouterr().err
        assert bench.folder.record("first")["moved"] == line
        assert json.loads((kept / "record.json").read_text())["moved"] == line
    moved = bench.folder.record("second")["moved"]
    assert moved == "moved second.txt to stale/second/2: what it reads changed: first/out.txt"


def test_files_that_no_record_explains_are_not_taken_up(bench: Bench) -> None:
    (bench.folder.path / "first").mkdir()
    (bench.folder.path / "first/checkpoint").write_text("of whatever settings")
    assert bench.do(bench.first()) == [True] and bench.out() == "new 1"
    assert "no record says what made it" in bench.folder.record("first")["moved"]


def test_a_missing_input_is_named(bench: Bench) -> None:
    with pytest.raises(RunError, match=r"first: there is no gone\.parquet, seen from /"):
        bench.first(files=("gone.parquet",)).request()


def test_a_stage_that_writes_nothing_has_failed(bench: Bench) -> None:
    with pytest.raises(RunError, match="wrote nothing"):
        bench.do(bench.first(work=lambda config, run: None))
    assert not bench.folder.done("first").exists()


def test_one_run_at_a_time(bench: Bench) -> None:
    lock, again = (bench.folder.locked("run", wait=False) for _ in range(2))
    with lock, pytest.raises(RunError, match="another mofgap run is at work"), again:
        pass
    with bench.folder.locked("run", wait=False):
        pass


@pytest.mark.parametrize("flock", [lambda *_: None, _no_locks])
def test_a_file_system_without_locks_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, flock: Callable[..., None]
) -> None:
    monkeypatch.setattr("fcntl.flock", flock)
    with (
        pytest.raises(RunError, match=r"does not hold locks.*-o"),
        bench.folder.locked("run", wait=False),
    ):
        pass


def test_a_job_of_a_run_that_ended_does_nothing(bench: Bench) -> None:
    """On a node, the same is seen where locks do not hold between machines."""
    bench.folder.write_config(CONFIG)
    run = ["stage", "screen/1-of-1", "--run", str(bench.folder.path), "--of-run"]
    found = CliRunner().invoke(app, run)
    assert found.exit_code == 1 and "no mofgap run is at work" in found.output
    with bench.folder.locked("run", wait=False):
        assert "no mofgap run is at work" not in CliRunner().invoke(app, run).output


def test_half_written_files_are_no_outputs(bench: Bench) -> None:
    (bench.folder.path / "first").mkdir()
    for name in ("first/a.txt", "first/.b.txt.17.partial", "first/c.partial"):
        (bench.folder.path / name).touch()
    assert bench.folder.files(("first/**",)) == ["first/a.txt"]


@pytest.mark.parametrize("name", ["table.parquet", "table[1].parquet"])
@pytest.mark.parametrize("ending", ["", "/**"])
def test_a_table_in_parts_and_one_in_a_file_make_room_for_each_other(
    tmp_path: Path, name: str, ending: str
) -> None:
    table, folder = tmp_path / name, RunFolder(tmp_path)
    table.mkdir()
    (table / "part-0.parquet").write_text("1")
    moved = folder.set_aside("gather", [glob.escape(name) + ending], "other settings")
    assert moved.startswith(f"moved {name} ")
    assert not table.exists() and len(list((tmp_path / "stale/gather/1" / name).iterdir())) == 1


def test_a_stage_without_its_device_leaves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    bench = Bench(tmp_path)
    bench.do(bench.first())
    asked = bench.first(settings={"epochs": 2}, device="cuda")
    with pytest.raises(RunError, match="first: device is cuda, but torch sees no CUDA device"):
        bench.do(asked)
    assert bench.out() == "new 1" and not (tmp_path / "stale").exists()
    assert bench.do(bench.first()) == [False]  # as it was


def test_stages_that_compute_know_their_device() -> None:
    screening = ShardedScreening(inputs=("none.cif",), device="cuda")
    found = {stage.rule: stage.device for stage in screening_stages(RunConfig("x", screening=screening))}
    assert found == {"screen": "cuda", "gather": "auto", "report": "auto"}


@pytest.mark.parametrize(("old", "new"), [("a.txt", "b.txt"), ("a/**", "b/**"), ("a/**", "a"), ("a", "a/**")])
def test_what_a_stage_wrote_under_another_name_is_set_aside(bench: Bench, old: str, new: str) -> None:
    def write(_config: RunConfig, run: Path, name: str) -> None:
        path = run / name.replace("**", "part")
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)

    for name in (old, new):
        stage = bench._stage("first", partial(write, name=name), name)
        bench.do(replace(stage, settings={"table": name}))
    before, now = old.split("/")[0], new.split("/")[0]
    assert (bench.folder.path / "stale/first/1" / before).exists()
    assert before == now or not (bench.folder.path / before).exists()
    assert (bench.folder.path / new.replace("**", "part")).read_text() == new
