"""Structures are prepared on every way into a prediction, and a switch leaves them as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mofgap
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import crystal_graph
from mofgap.crystals.write import write_cif
from mofgap.gap.folder import save_model
from mofgap.gap.predictor import load_model
from mofgap.selection.candidates import read_candidates
from mofgap.selection.select import select

CELL = np.diag([6.0, 6.1, 6.2])


def zinc_formate(ch_angstrom: float) -> Crystal:
    """Zinc formate, the C-H bond along c of a given length."""
    frac = np.array([[0, 0, 0], [0.31, 0.05, 0], [0.5, 0.12, 0], [0.69, 0.05, 0], [0.5, 0.12, 0]])
    frac[4, 1] += ch_angstrom / CELL[1, 1]
    return Crystal(CELL, frac, np.array([30, 8, 6, 8, 1]), "formate")


def doubled(crystal: Crystal) -> Crystal:
    """The same crystal, its cell repeated along c."""
    frac = np.concatenate([crystal.frac_coords, crystal.frac_coords + np.array([0, 0, 1])]) / [1, 1, 2]
    return replace(
        crystal,
        cell=crystal.cell * [[1], [1], [2]],
        frac_coords=frac,
        atomic_numbers=np.tile(crystal.atomic_numbers, 2),
    )


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A CIF with a C-H bond as X-ray diffraction sees it."""
    path = tmp_path / "formate.cif"
    path.write_text(write_cif(zinc_formate(0.95)))
    return path


def test_a_short_bond_to_hydrogen_is_stretched_and_said(raw: Path, model_folder: Path) -> None:
    prepared = mofgap.screen(raw, model=model_folder).iloc[0]
    stretched = mofgap.screen(zinc_formate(1.0927), model=model_folder).iloc[0]
    assert "stretched to those of DFT: 1 C-H" in prepared.warnings
    assert prepared.gap_ev == pytest.approx(stretched.gap_ev, abs=2e-3)
    as_read = mofgap.screen(raw, model=model_folder, hydrogen_lengths=False).iloc[0]
    assert "hydrogen-lengths" not in as_read.warnings and as_read.gap_ev != prepared.gap_ev


def test_every_way_in_prepares_alike(raw: Path, model_folder: Path) -> None:
    from_file, from_object = (
        mofgap.screen(source, model=model_folder).iloc[0] for source in (raw, zinc_formate(0.95))
    )
    predicted = load_model(model_folder).predict(raw)
    assert from_file.gap_ev == from_object.gap_ev == pytest.approx(predicted, abs=1e-4)
    untouched = load_model(model_folder).predict(raw, preparation=None)
    graph = crystal_graph(zinc_formate(0.95), load_model(model_folder).model.graph_config)
    assert untouched == pytest.approx(float(load_model(model_folder).model(graph)[0][0]), abs=1e-3)


def test_a_cell_counts_its_atoms_once_it_is_primitive(tmp_path: Path, model_folder: Path) -> None:
    path = tmp_path / "twice.cif"
    path.write_text(write_cif(doubled(zinc_formate(1.1))))
    row = mofgap.screen(path, model=model_folder, max_atoms=5).iloc[0]
    assert row.n_atoms == 5 and "primitive-cell" in row.warnings
    kept = mofgap.screen(path, model=model_folder, max_atoms=5, primitive_cell=False).iloc[0]
    assert kept.status == "failed" and kept.reason.startswith("too-many-atoms: 10")
    assert "give the primitive cell" in kept.reason
    unread = mofgap.screen(path, model=model_folder, max_atoms=2).iloc[0]
    limits = "10 atoms in the cell, the limit is 2, and 8 where the primitive cell is smaller; give"
    assert limits in unread.reason
    large = mofgap.screen(path, model=model_folder, max_atoms=4).iloc[0]
    assert "5 atoms in the primitive cell" in large.reason and "give" not in large.reason


def test_what_is_selected_is_read_again_as_it_was_screened(
    raw: Path, model_folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "gaps.csv"
    mofgap.screen(raw, window=(0, 10), model=model_folder).to_csv(table, index=False)
    found = select(read_candidates(table), load_model(model_folder), "window", 1, "refuse")
    assert len(found.table) == 1 and not found.skipped
    bond = (found.crystals[0].frac_coords[4] - found.crystals[0].frac_coords[2]) @ CELL
    assert np.linalg.norm(bond) == pytest.approx(1.0927, abs=2e-3)


def test_error_bars_know_an_experimental_geometry(raw: Path, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    plain = load_model(model_folder)
    wider = replace(plain.calibration, experimental_std_ev=0.5)
    save_model(folder, plain.model, plain.about, wider, plain.novelty)
    before, after, said = (
        mofgap.screen(raw, model=model, **more).iloc[0]
        for model, more in ((model_folder, {}), (folder, {}), (folder, {"geometry": "relaxed"}))
    )
    assert "experimental-geometry" in after.warnings and after.status == before.status
    assert after.gap_std_ev == pytest.approx(np.hypot(before.gap_std_ev, 0.5), abs=1e-3)
    for other in (before, said):
        assert "experimental-geometry" not in other.warnings
    relaxed = [mofgap.screen(zinc_formate(1.1), model=model).iloc[0] for model in (model_folder, folder)]
    assert relaxed[0].drop("model").equals(relaxed[1].drop("model"))
