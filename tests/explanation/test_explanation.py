from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import ase.io
import gemmi
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from typer.testing import CliRunner

import mofgap
from mofgap.__main__ import app
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif
from mofgap.explanation.explanation import KINDS, Explanation
from mofgap.explanation.files import atom_table, cif_with_shares, element_table, extended_xyz
from mofgap.explanation.picture import drawn, save, view
from mofgap.gap.attribution import Attribution
from mofgap.gap.folder import read_model, save_model

CRYSTAL = Crystal(
    np.diag([9.0, 6.0, 7.5]),
    np.array([[0, 0, 0], [0.31, 0.05, 0], [0.5, 0.12, 0], [0.69, 0.05, 0], [0.5, 0.302, 0]]),
    np.array([30, 8, 6, 8, 1]),
    "ZnFormate",
)
FOUND = Attribution(
    2.5, 2.0, np.array([1.1, -0.7, 0.2, -0.05, -0.05]), 0.04, 0.01 * np.array([3, 1, 1, -2, 1])
)
WITHOUT_VARIANCE = Attribution(2.5, 2.0, FOUND.gap_share_ev, float("nan"), np.full(5, np.nan))


def test_tables_keep_the_sums() -> None:
    atoms = atom_table(CRYSTAL, FOUND)
    assert atoms["index"].tolist() == [1, 2, 3, 4, 5] and atoms.element.tolist() == ["Zn", "O", "C", "O", "H"]
    elements = element_table(atoms)
    assert elements.element.tolist()[:2] == ["Zn", "O"] and elements.n_atoms.tolist()[:2] == [1, 2]
    assert elements.gap_share_ev.sum() == pytest.approx(0.5)
    assert elements.variance_fraction.sum() == pytest.approx(1)
    assert "variance_fraction" not in atom_table(CRYSTAL, WITHOUT_VARIANCE)


def test_extended_xyz_comes_back() -> None:
    atoms = ase.io.read(io.StringIO(extended_xyz(CRYSTAL, FOUND, "PBE")), format="extxyz")
    np.testing.assert_allclose(atoms.arrays["gap_share_ev"], FOUND.gap_share_ev, atol=1e-7)
    np.testing.assert_allclose(atoms.arrays["variance_fraction"], FOUND.variance_fraction, atol=1e-7)
    np.testing.assert_allclose(atoms.cell.array, CRYSTAL.cell)
    assert atoms.info["level_of_theory"] == "PBE"
    assert atoms.info["gap_ev"] == 2.5 and atoms.info["gap_variance_ev2"] == 0.04
    plain = ase.io.read(io.StringIO(extended_xyz(CRYSTAL, WITHOUT_VARIANCE, "PBE")), format="extxyz")
    assert "variance_fraction" not in plain.arrays


def test_cif_comes_back() -> None:
    block = gemmi.cif.read_string(cif_with_shares(CRYSTAL, FOUND, "PBE-D3(BJ), no U")).sole_block()
    for name in ("gap_share_ev", "variance_fraction"):
        column = [float(v) for v in block.find_values(f"_atom_site_mofgap_{name}")]
        np.testing.assert_allclose(column, getattr(FOUND, name), rtol=1e-5)
    assert float(block.find_value("_mofgap_gap_reference_ev")) == 2
    assert gemmi.cif.as_string(block.find_value("_mofgap_level_of_theory")) == "PBE-D3(BJ), no U"
    assert len(gemmi.make_small_structure_from_block(block).sites) == 5
    assert "nan" not in cif_with_shares(CRYSTAL, WITHOUT_VARIANCE, "PBE")


def test_a_gap_below_zero_is_cut_as_everywhere(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, about, calibration, novelty = read_model(model_folder)
    model.gap_mean_ev.fill_(-9.0)
    save_model(tmp_path / "model", model, about, calibration, novelty)
    (tmp_path / "zn.cif").write_text(write_cif(CRYSTAL))
    captions: list[tuple[str, str]] = []

    def caught(crystal: Crystal, found: Attribution, *words: str) -> Figure:
        captions.append(words)
        return drawn(crystal, found, *words)

    monkeypatch.setattr("mofgap.explanation.picture.drawn", caught)
    arguments = [str(tmp_path / "zn.cif"), "--model", str(tmp_path / "model"), "-o", str(tmp_path)]
    done = CliRunner().invoke(app, ["explain", *arguments])
    assert "gap 0.00 ±" in done.stderr and "gap 0.00 ±" in captions[0][0] and "baseline" in captions[0][1]
    block = gemmi.cif.read(str(tmp_path / "zn-explained.cif")).sole_block()
    whole, reference = (
        float(block.find_value(f"_mofgap_gap_{name}_ev")) for name in ("before_cut", "reference")
    )
    shares = [float(value) for value in block.find_values("_atom_site_mofgap_gap_share_ev")]
    assert float(block.find_value("_mofgap_gap_ev")) == 0 and whole < -1
    assert sum(shares) == pytest.approx(whole - reference, abs=1e-4)
    assert ase.io.read(tmp_path / "zn-explained.xyz").info["gap_ev"] == 0


def test_view_is_along_the_shortest_axis() -> None:
    rotation, axis = view(CRYSTAL.cell)
    assert axis == 1
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    np.testing.assert_allclose(rotation @ CRYSTAL.cell[1], [0, 0, 6], atol=1e-12)


def test_picture_shows_both_signs_where_the_shares_have_them(tmp_path: Path) -> None:
    save(drawn(CRYSTAL, WITHOUT_VARIANCE, "a name with cost$_$x", "baseline"), tmp_path / "one.png")
    save(drawn(CRYSTAL, FOUND, "two panels", "baseline"), tmp_path / "two.png")
    one, two = imread(tmp_path / "one.png"), imread(tmp_path / "two.png")
    assert two.shape[1] > one.shape[1]
    for image in (one[:, : one.shape[1] * 3 // 4], two[:, : two.shape[1] * 3 // 8]):
        red, _, blue = np.moveaxis(image[..., :3], 2, 0)
        assert (red - blue > 0.3).any() and (blue - red > 0.3).any()


def test_a_metal_behind_another_atom_has_no_symbol_on_that_atom() -> None:
    frac_coords = CRYSTAL.frac_coords.copy()
    frac_coords[0] = [0.5, 0.01, 0]  # behind carbon
    hidden = replace(CRYSTAL, frac_coords=frac_coords)
    for crystal, symbols in ((CRYSTAL, ["Zn"]), (hidden, [])):
        axes = drawn(crystal, WITHOUT_VARIANCE, "title", "baseline").axes[0]
        assert [text.get_text() for text in axes.texts] == symbols


def test_command_writes_what_it_shows(tmp_path: Path, model_folder: Path) -> None:
    cif = tmp_path / "zn.cif"
    cif.write_text(write_cif(CRYSTAL))
    arguments = ["explain", str(cif), "--model", str(model_folder), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--atoms"])
    assert done.exit_code == 0, done.output
    shown = pd.read_csv(io.StringIO(done.stdout), sep="\t")
    written = pd.read_csv(tmp_path / "out" / "zn-explained.csv")
    pd.testing.assert_frame_equal(shown, written)
    assert shown.variance_fraction.sum() == pytest.approx(1, abs=1e-4)
    kinds = sorted(path.suffix for path in (tmp_path / "out").iterdir())
    assert kinds == [".cif", ".csv", ".png", ".xyz"]
    elements = CliRunner().invoke(app, arguments[:4])
    by_element = pd.read_csv(io.StringIO(elements.stdout), sep="\t")
    assert sorted(by_element.element) == ["C", "H", "O", "Zn"] and by_element.n_atoms.sum() == 5
    content = json.loads(CliRunner().invoke(app, [*arguments[:4], "--json"]).stdout)
    assert {row["element"] for row in content["elements"]} == {"C", "H", "O", "Zn"}
    assert content["gap_ev"] >= 0 and content["model"] == "tiny"
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "--force" in again.output
    beside = CliRunner().invoke(app, [*arguments[:-1], str(cif), "--force"])
    assert beside.exit_code == 2 and "name a folder" in beside.output


def test_command_reads_disorder_and_cells_as_asked(tmp_path: Path, model_folder: Path) -> None:
    cif = Path(__file__).parents[1] / "fixtures" / "cifs" / "partial_occupancy.cif"
    for options, message in (
        ([], "--disorder majority"),
        (["--disorder", "majority"], ""),
        (["--disorder", "majority", "--max-atoms", "4"], "--max-atoms"),
    ):
        done = CliRunner().invoke(app, ["explain", str(cif), "--model", str(model_folder), *options])
        assert done.exit_code == (1 if message else 0) and message in done.output, done.output


def test_python_reads_disorder_cells_and_guests_as_asked(tmp_path: Path, model_folder: Path) -> None:
    cif, model = Path(__file__).parents[1] / "fixtures" / "cifs" / "partial_occupancy.cif", str(model_folder)
    with pytest.raises(ValueError, match="partial-occupancy"):
        mofgap.explain(cif, model)
    whole = mofgap.explain(cif, model, disorder="majority").crystal
    with pytest.raises(ValueError, match="too-many-atoms"):
        mofgap.explain(cif, model, disorder="majority", max_atoms=whole.n_atoms - 1)
    water = np.array([[4.5, 4.5, 4.5], [5.16, 4.5, 5.01], [3.84, 4.5, 5.01]]) + CRYSTAL.cell.sum(0) / 2
    wet = Crystal(
        CRYSTAL.cell * 2,
        np.vstack([CRYSTAL.frac_coords / 2, water @ np.linalg.inv(CRYSTAL.cell * 2)]),
        np.array([*CRYSTAL.atomic_numbers, 8, 1, 1]),
    )
    kept, removed = (mofgap.explain(wet, model, guests=guests).crystal for guests in ("keep", "remove"))
    assert removed.n_atoms < kept.n_atoms == wet.n_atoms


def test_the_kind_of_geometry_can_be_said(tmp_path: Path, model_folder: Path) -> None:
    cif = tmp_path / "zn.cif"
    cif.write_text(write_cif(CRYSTAL))
    for kind in ("relaxed", "experimental"):
        found = mofgap.explain(cif, str(model_folder), geometry=kind)  # type: ignore[arg-type]
        assert found.crystal.experimental == (kind == "experimental")
        assert found.warnings[-1].startswith("not-calibrated: tiny is not calibrated")
    arguments = ["explain", str(cif), "--model", str(model_folder), "--geometry", "experimental"]
    assert CliRunner().invoke(app, arguments).exit_code == 0


def test_a_gap_without_guests_is_that_of_a_screening(tmp_path: Path, model_folder: Path) -> None:
    formate = [[0, 0, 0], [1.95, 0, 0.35], [2.75, 0, -0.62], [2.4, 0, -1.5], [3.97, 0, -0.45]]
    water = [[4.5, 4.5, 4.5], [5.16, 4.5, 5.01], [3.84, 4.5, 5.01]]
    numbers = np.array([12, 8, 6, 1, 8, 8, 1, 1])
    wet = Crystal(9 * np.eye(3), np.array(formate + water) / 9, numbers, "wet")
    cif = tmp_path / "wet.cif"
    cif.write_text(write_cif(wet))
    arguments = ["--model", str(model_folder), "--guests", "remove", "--json"]
    explained, screened = (
        json.loads(CliRunner().invoke(app, [command, str(cif), *arguments]).stdout)
        for command in ("explain", "screen")
    )
    assert explained["gap_ev"] == pytest.approx(screened[0]["gap_ev"], abs=1e-4)
    assert {row["element"]: row["n_atoms"] for row in explained["elements"]} == dict(Mg=1, C=1, O=2, H=1)


def test_copies_in_the_cell_hide_no_odd_electron(model_folder: Path) -> None:
    one = replace(CRYSTAL, frac_coords=CRYSTAL.frac_coords[:4], atomic_numbers=np.array([12, 8, 6, 7]))
    places = np.vstack([one.frac_coords + shift for shift in ([0, 0, 0], [0, 0, 1])]) / [1, 1, 2]
    two = Crystal(one.cell * [[1], [1], [2]], places, np.tile(one.atomic_numbers, 2), "two")
    explained = mofgap.explain(two, str(model_folder))
    assert explained.crystal.n_atoms == two.n_atoms
    assert any(text.startswith("odd-electrons") for text in explained.warnings), explained.warnings
    screened = mofgap.screen(two, model=str(model_folder)).iloc[0]
    assert explained.gap_std_ev == pytest.approx(screened.gap_std_ev, abs=1e-3)


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    found = Explanation(replace(CRYSTAL, structure_id="ü" * 120), FOUND, 2.5, 0.3, "PBE", "tiny")
    paths = found.write(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert imread(paths[-1]).min() != imread(paths[-1]).max()


def test_command_takes_names_that_are_no_text(tmp_path: Path, model_folder: Path) -> None:
    cif = tmp_path / os.fsdecode(b"a\xff.cif")
    cif.write_text(write_cif(CRYSTAL))
    arguments = ["explain", str(cif), "--model", str(model_folder), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {f"a\ufffd-explained{kind}" for kind in KINDS}


def test_command_names_the_file_it_cannot_read(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "bad.cif").write_text("data_x\n")
    done = CliRunner().invoke(app, ["explain", str(tmp_path / "bad.cif"), "--model", str(model_folder)])
    assert done.exit_code == 1 and "bad.cif" in done.output and "Traceback" not in done.output


def test_command_tells_what_deserves_a_look(tmp_path: Path, model_folder: Path) -> None:
    cif = tmp_path / "bare.cif"
    cif.write_text(write_cif(CRYSTAL))
    done = CliRunner().invoke(app, ["explain", str(cif), "--model", str(model_folder)])
    assert done.exit_code == 0 and "warning: novel: " in done.stderr
