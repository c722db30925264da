"""``mofgap train --from`` and ``mofgap calibrate`` on a CSV of labels and a folder of CIFs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from mofgap.__main__ import app
from mofgap.cli.training_run import execute
from mofgap.gap.folder import find_model
from mofgap.gap.predictor import load_model
from mofgap.training.notes import loses_correction

FIXTURES = Path(__file__).parents[1] / "fixtures" / "cifs"

WriteCifs = Callable[[Path, int], list[Path]]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, write_cifs: WriteCifs) -> Path:
    folder = tmp_path_factory.mktemp("study")
    paths = write_cifs(folder / "cifs", 32)
    gaps = np.random.default_rng(0).uniform(2, 5, len(paths))
    pd.DataFrame({"name": [path.name for path in paths], "gap_ev": gaps}).to_csv(
        folder / "hse.csv", index=False
    )
    return folder


def test_a_model_goes_on_to_another_level_of_theory(study: Path, model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "hse"
    arguments = ["train", str(study / "hse.csv"), str(study / "cifs"), "--from", str(model_folder)]
    options = ["-o", str(output), "--level-of-theory", "HSE06", "--epochs", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, *options])
    assert done.exit_code == 0, done.output
    predictor = load_model(output, "cpu")
    assert predictor.about.level_of_theory == "HSE06"
    assert predictor.model.config == load_model(model_folder, "cpu").model.config
    # Few labels: all of them teach the model, and all of them carry its intervals.
    assert len(predictor.calibration.residuals[0].values) == 32
    assert set(predictor.novelty.ids) >= {f"s{i}" for i in range(32)}
    card = (output / "card.md").read_text()
    assert "Started from the gap model tiny" in card
    assert "train 32" in card and "| cross-fitted |" in card and "conformal on 32 structures" in card
    assert done.stdout.startswith("split\tcross-fitted")
    missing = CliRunner().invoke(app, [*arguments[:-1], "no-such-model", *options])
    assert missing.exit_code == 2 and "no-such-model" in missing.output


def test_a_release_learns_from_every_split(study: Path, model_folder: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(study / "hse.csv")
    labels["split"] = ["train"] * 20 + ["val"] * 6 + ["test"] * 6
    labels.to_csv(tmp_path / "labels.csv", index=False)
    arguments = ["train", tmp_path / "labels.csv", study / "cifs", "--from", model_folder, "--epochs", "0"]
    arguments += ["--all-rows", "--device", "cpu", "-o", tmp_path / "release"]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    released = load_model(tmp_path / "release", "cpu")
    assert len(released.calibration.residuals[0].values) == 32
    assert set(released.novelty.ids) >= {f"s{i}" for i in range(32)}
    assert "train 32" in (tmp_path / "release" / "card.md").read_text()
    wrong = CliRunner().invoke(app, [*map(str, arguments), "--split-column", "split_2"])
    assert wrong.exit_code == 2 and "split_column" in wrong.output


@pytest.mark.parametrize(("groups", "noted"), [(4, True), (8, False)])
def test_families_that_had_to_be_divided_are_said(
    study: Path, model_folder: Path, tmp_path: Path, groups: int, noted: bool
) -> None:
    labels = pd.read_csv(study / "hse.csv")
    labels.assign(group=[f"g{i % groups}" for i in range(32)]).to_csv(tmp_path / "labels.csv", index=False)
    arguments = ["train", tmp_path / "labels.csv", study / "cifs", "--from", model_folder, "--epochs", "0"]
    done = CliRunner().invoke(app, [*map(str, arguments), "--device", "cpu", "-o", str(tmp_path / "model")])
    assert done.exit_code == 0, done.output
    assert done.stderr.count("fewer than 5 families") == noted, done.stderr


def test_a_column_that_only_resembles_split_is_refused(study: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(study / "hse.csv").assign(Split=["train"] * 24 + ["test"] * 8)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    arguments = ["train", tmp_path / "labels.csv", study / "cifs", "-o", tmp_path / "model"]
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 2 and "'Split'" in done.output, done.output
    assert not (tmp_path / "model").exists()


def test_a_folder_of_other_files_becomes_no_model(
    study: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # messages are not wrapped
    before = sorted(study.rglob("*"))
    arguments = ["train", str(study / "hse.csv"), str(study / "cifs"), "--from", str(model_folder)]
    for output in (study / "cifs", study / "hse.csv"):
        done = CliRunner().invoke(app, [*arguments, "--epochs", "0", "-o", str(output)])
        assert done.exit_code == 2 and "is no training; name a" in done.output
    assert sorted(study.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    options = ["--epochs", "0", "--device", "cpu", "-o", str(tmp_path / "empty")]
    assert CliRunner().invoke(app, [*arguments, *options]).exit_code == 0
    (tmp_path / "empty" / "config.json").unlink()  # as where it was killed
    again = CliRunner().invoke(app, [*arguments, *options, "--resume"])
    assert again.exit_code == 0, again.output


def test_how_cifs_are_read_is_up_to_the_user(study: Path, model_folder: Path, tmp_path: Path) -> None:
    cifs = shutil.copytree(study / "cifs", tmp_path / "cifs")
    shutil.copy(FIXTURES / "partial_occupancy.cif", cifs)
    labels = pd.read_csv(study / "hse.csv")
    labels.loc[len(labels)] = ["partial_occupancy", 3.0]
    labels.to_csv(tmp_path / "labels.csv", index=False)
    arguments = ["train", tmp_path / "labels.csv", cifs, "--from", model_folder, "--epochs", "0"]
    for options, there in (([], False), (["--disorder", "majority"], True)):
        output = tmp_path / f"model{there}"
        done = CliRunner().invoke(app, [*map(str, arguments), "-o", str(output), *options])
        assert done.exit_code == 0, done.output
        assert ("--disorder majority" in done.stderr) != there
        assert ("partial_occupancy" in load_model(output, "cpu").novelty.ids) == there


def test_error_bars_from_a_csv_of_labels(study: Path, model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "mine"
    arguments = [
        "calibrate",
        str(model_folder),
        str(study / "hse.csv"),
        str(study / "cifs"),
        "-o",
        str(output),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    calibration = load_model(output, "cpu").calibration
    assert not calibration.is_raw and len(calibration.residuals[0].values) == 32
    wrong = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "x"), "--target", "gap"])
    assert wrong.exit_code == 1 and "gap_ev" in wrong.output and not (tmp_path / "x").exists()


def test_a_lost_neighbour_correction_is_told(model_folder: Path) -> None:
    shipped = find_model("qmof-pbe")
    assert loses_correction(shipped, model_folder)
    assert not loses_correction(shipped, shipped) and not loses_correction(model_folder, model_folder)


def test_a_full_disk_keeps_what_was_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full:
        def read(self) -> None:
            raise OSError(ENOSPC, "No space left on device")

    with pytest.raises(typer.Exit):
        execute(Full(), Path("model"), resume=False)  # type: ignore[arg-type]
    words = "cannot write model: No space left on device; what was trained is kept, and --resume goes on"
    assert words in capsys.readouterr().err
