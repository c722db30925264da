"""What ``mofgap screen`` says beside its table."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pymatgen.core import Structure
from typer.testing import CliRunner, Result

from mofgap.__main__ import app
from mofgap.gap import folder as folders
from mofgap.gap.folder import read_model, save_model
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.scaling import Scaling

WriteCifs = Callable[[Path, int], list[Path]]


@pytest.fixture(scope="module")
def cif(tmp_path_factory: pytest.TempPathFactory, write_cifs: WriteCifs) -> Path:
    return write_cifs(tmp_path_factory.mktemp("cifs"), 1)[0]


def screened(cif: Path, model: Path, *options: str) -> Result:
    output = cif.with_name("table.csv")
    return CliRunner().invoke(
        app, ["screen", str(cif), "--model", str(model), "-o", str(output), "--force", *options]
    )


def test_a_raw_model_and_a_pbe_model_are_named_as_such(cif: Path, model_folder: Path) -> None:
    done = screened(cif, model_folder)
    assert done.exit_code == 0
    assert "tiny is not calibrated" in done.stderr
    assert done.stderr.count("PBE") == 1 and "below measured" in done.stderr


def test_a_changed_model_is_named_as_such_in_every_row(
    cif: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "shipped_digests", lambda: {"tiny": "of another"})
    done = screened(cif, model_folder)
    assert "tiny (changed)" in done.stderr
    with cif.with_name("table.csv").open() as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["tiny (changed)"]


def test_nothing_is_said_of_gaps_where_there_are_none(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "bad.cif").write_text("no crystal")
    done = screened(tmp_path / "bad.cif", model_folder)
    assert done.exit_code == 1 and "PBE" not in done.stderr


def test_a_calibrated_model_of_another_theory_needs_no_such_words(
    cif: Path, model_folder: Path, tmp_path: Path
) -> None:
    model, about, _, novelty = read_model(model_folder)
    few = Calibration(Scaling(), (Residuals(tuple(float(i) for i in range(-15, 16))),))
    shutil.copytree(model_folder, tmp_path / "hse")
    save_model(tmp_path / "hse", model, replace(about, level_of_theory="HSE06"), few, novelty)
    done = screened(cif, tmp_path / "hse")
    assert done.exit_code == 0
    assert "not calibrated" not in done.stderr and "PBE" not in done.stderr
    wide = screened(cif, tmp_path / "hse", "--coverage", "0.99")
    assert wide.exit_code == 2 and "residuals give" in wide.output


def test_how_many_novel_structures_were_dropped(cif: Path, model_folder: Path) -> None:
    numbers = cif.with_name("gold.cif")
    numbers.write_text(cif.read_text().replace("Zn", "Au"))
    done = screened(numbers, model_folder, "--novelty", "drop", "--coverage", "0.95")
    assert done.exit_code == 0 and "left out: 1 (--novelty drop)" in done.stderr
    assert "gap_lo95_ev" in cif.with_name("table.csv").read_text()


def test_force_spares_inputs_and_a_table_where_nothing_could_be_read(
    cif: Path, model_folder: Path, tmp_path: Path
) -> None:
    structures = tmp_path / "s.json"
    structures.write_text(pymatgen_json(cif))
    how = ["--model", str(model_folder), "--force", "-o"]
    done = CliRunner().invoke(app, ["screen", str(structures), *how, str(structures)], env={"COLUMNS": "300"})
    assert done.exit_code == 2 and "is an input, and stays with --force too" in done.output
    listing = tmp_path / "names.csv"
    listing.write_text(f"{cif}\n")
    done = CliRunner().invoke(app, ["screen", f"@{listing}", *how, str(listing)], env={"COLUMNS": "300"})
    assert done.exit_code == 2 and "is an input" in done.output and listing.read_text() == f"{cif}\n"
    table = tmp_path / "t.csv"
    assert CliRunner().invoke(app, ["screen", str(structures), *how, str(table)]).exit_code == 0
    before = table.read_bytes()
    done = CliRunner().invoke(app, ["screen", str(tmp_path / "typo"), *how, str(table)])
    assert done.exit_code == 1 and "t.csv is kept as it was" in done.stderr and "failed: " in done.stderr
    assert table.read_bytes() == before and not list(tmp_path.glob("*.partial.*"))


def pymatgen_json(cif: Path) -> str:
    text: str = Structure.from_file(cif).to_json()
    return text
