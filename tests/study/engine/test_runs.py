"""Looking for runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.configuration import digest, to_dict
from mofgap.study.engine.cluster import Executor
from mofgap.study.engine.config import RunConfig, ShardedScreening
from mofgap.study.engine.folder import write_state
from mofgap.study.engine.manifest import read_manifest, verify
from mofgap.study.engine.run import Run


@pytest.mark.parametrize("text", ["{}", "[1]", "{", json.dumps({"version": 1}), json.dumps({"version": 99})])
def test_a_damaged_manifest_costs_its_own_line_only(tmp_path: Path, text: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("name: x\n")
        (tmp_path / name / "manifest.json").write_text(text)
    done = CliRunner().invoke(app, ["runs", "list", str(tmp_path)])
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 1
    done = CliRunner().invoke(app, ["runs", "show", str(tmp_path / "one")])
    assert done.exit_code == 1 and "manifest.json" in done.stderr


def test_a_run_at_work_is_listed_as_not_finished_with_its_own_settings(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]], monkeypatch: Any
) -> None:
    write_cifs(tmp_path / "cifs", 1)
    screening = ShardedScreening(inputs=(str(tmp_path / "cifs"),), model=str(model_folder))  # type: ignore[call-arg]
    config, run = RunConfig("x", screening=screening, report=False), tmp_path / "runs/x"
    changed = replace(config, screening=replace(screening, top=1))
    seen: list[dict[str, Any]] = []
    carry_out = Run._execute

    def look(self: Run, *arguments: Any) -> dict[str, str]:
        seen.append(read_manifest(run))
        shown = CliRunner().invoke(app, ["runs", "list", str(tmp_path)]).stdout
        assert str(run) in shown and "yes" not in shown
        assert CliRunner().invoke(app, ["runs", "show", str(run)]).exit_code == 0
        return carry_out(self, *arguments)

    monkeypatch.setattr(Run, "_execute", look)
    for each, command in ((config, "first"), (changed, "second")):
        Run(each, run, command).run(Executor(1), lambda _: None)
        assert read_manifest(run)["finished"]
        assert seen[-1]["command"] == command and seen[-1]["config_digest"] == digest(to_dict(each))
        assert not seen[-1]["finished"] and not seen[-1]["stages"]


def test_a_killed_run_shows_what_it_did_and_metrics_whether_they_are_of_before_a_calibration(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> None:
    inputs = (str(write_cifs(tmp_path / "cifs", 1)[0]),)
    screening = ShardedScreening(inputs=inputs, model=str(model_folder))  # type: ignore[call-arg]
    run = Run(RunConfig("x", screening=screening, report=False), tmp_path)
    run.run(Executor(1), lambda _: None)
    stages, outputs = (read_manifest(tmp_path)[name] for name in ("stages", "outputs"))
    for name in stages:
        run.folder.done(name).unlink()
    run._write_manifest()  # as a run that begins
    assert not read_manifest(tmp_path)["stages"]
    for name in stages:
        run.folder.done(name).touch()
    found = read_manifest(tmp_path)  # as a kill leaves it
    assert not found["finished"] and found["stages"] == stages and found["outputs"] == outputs
    shown = CliRunner().invoke(app, ["runs", "show", str(tmp_path)]).stdout
    assert "gather" in shown

    (tmp_path / "metrics.json").write_text('{"test": {"mae_ev": 0.2}}')
    for name, words in (("gather", "metric "), ("calibrate", "metric (before the calibration)")):
        write_state(
            tmp_path / "manifest.json", found | {"finished": True, "stages": {name: stages["gather"]}}
        )
        shown = CliRunner().invoke(app, ["runs", "show", str(tmp_path)]).stdout
        assert words in shown and ("calibration" in words) == ("calibration" in shown)


def test_the_inputs_of_a_run_are_known_by_where_they_are_now(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> None:
    models = shutil.copytree(model_folder, tmp_path / "one"), tmp_path / "two"
    inputs = (str(write_cifs(tmp_path / "cifs", 1)[0]),)
    for model in models:
        screening = ShardedScreening(inputs=inputs, model=str(model))  # type: ignore[call-arg]
        Run(RunConfig("x", screening=screening, report=False), tmp_path / "run").run(
            Executor(1), lambda _: None
        )
        if model == models[0]:
            model.rename(models[1])
    assert verify(tmp_path / "run") == []
    assert str(models[1] / "config.json") in read_manifest(tmp_path / "run")["inputs"]


def test_before_the_first_run_the_list_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["runs", "list", "--json"])
    assert (done.exit_code, done.stdout.strip()) == (0, "[]") and "no runs in runs" in done.stderr
    assert CliRunner().invoke(app, ["runs", "list", "other"]).exit_code == 1
