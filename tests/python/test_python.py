from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import mofgap
from mofgap.configuration import ConfigurationError
from mofgap.crystals.convert import to_ase
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif
from mofgap.gap.predictor import GapPredictor
from mofgap.version import installed_version

WriteCifs = Callable[[Path, int], list[Path]]


def crystals(n: int) -> list[Crystal]:
    frac = np.array([[0, 0, 0], [0.31, 0.05, 0], [0.5, 0.12, 0], [0.69, 0.05, 0], [0.5, 0.302, 0]])
    numbers = np.array([30, 8, 6, 8, 1])
    return [Crystal(np.diag([6.0 + 0.03 * i, 6.1, 6.2]), frac, numbers, f"s{i}") for i in range(n)]


def test_the_package_lists_what_it_offers() -> None:
    assert {"screen", "load_model", "select", "explain", "annotate", "GapRegressor"} <= set(dir(mofgap))
    assert all(callable(getattr(mofgap, name)) for name in mofgap.__all__)
    assert mofgap.__version__ == installed_version("unknown")


@pytest.mark.parametrize("gone", ["gone.cif", "gone/*.cif"])
def test_a_path_that_does_not_exist_raises_before_any_work(
    gone: str, tiny: GapPredictor, write_cifs: WriteCifs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there,) = write_cifs(tmp_path, 1)
    for structures in (tmp_path / gone, [there, str(tmp_path / gone)]):
        with monkeypatch.context() as patch, pytest.raises(FileNotFoundError, match="gone"):
            patch.setattr(GapPredictor, "estimate", lambda *_, **__: pytest.fail("it has predicted"))
            mofgap.screen(structures, model=tiny)
    with pytest.raises(FileNotFoundError, match="gone"):
        mofgap.screen(iter([tmp_path / gone]), model=tiny)


@pytest.mark.parametrize("structures", [3, [3]])
def test_what_is_no_structure_is_named(structures: object, tiny: GapPredictor) -> None:
    with pytest.raises(TypeError, match=r"Structure.* not int"):
        mofgap.screen(structures, model=tiny)


def test_a_mapping_gives_structures_their_names(tiny: GapPredictor) -> None:
    one, two = crystals(2)
    table = mofgap.screen({"mine": to_ase(one), 2: two}, model=tiny)
    assert sorted(table.structure_id) == ["2", "mine"]


def test_a_model_is_shown_on_one_screen(tiny: GapPredictor) -> None:
    lines = repr(tiny).splitlines()
    assert len(lines) < 10 and max(map(len, lines)) < 120
    assert "tiny" in lines[0] and any("PBE" in line for line in lines)


def test_a_table_is_printed_with_its_gaps(tiny: GapPredictor, write_cifs: WriteCifs, tmp_path: Path) -> None:
    write_cifs(tmp_path, 3)
    (tmp_path / "bad.cif").write_text("")
    table = mofgap.screen(tmp_path, (1.8, 3.0), model=tiny)
    text = str(table)
    first = table.iloc[0]
    assert f"{first.gap_ev:.2f} ± {first.gap_std_ev:.2f}" in text and "1 failed" in text
    assert "in window" in text and max(map(len, text.splitlines())) <= 80
    assert "gap_ev" in repr(table[["gap_ev"]]) and repr(table.iloc[:0]) == "no rows"
    page = table.report(tmp_path / "page.html").read_text("utf-8")
    assert "$3Dmol" in page and "Model card" not in page
    assert "mofgap.screen(..., window=(1.8, 3.0), model=&#39;tiny&#39;)" in page


def test_files_that_are_not_read_are_told_at_the_call(
    tiny: GapPredictor, write_cifs: WriteCifs, tmp_path: Path
) -> None:
    write_cifs(tmp_path, 1)
    (tmp_path / "notes.txt").write_text("")
    with pytest.warns(UserWarning, match="skipped 2 files .*; to read such a file, name it") as told:
        mofgap.screen([tmp_path, tmp_path], model=tiny)
    (line,) = (each for each in told if "skipped" in str(each.message))
    assert line.filename == __file__


def test_structures_that_were_left_out_are_counted(tiny: GapPredictor) -> None:
    same = {name: crystals(1)[0] for name in "abc"}
    table = mofgap.screen(same, model=tiny, duplicates="first")
    assert repr(table).endswith("; duplicates left out: 2") and "left out" not in repr(table.iloc[:0])
    assert "left out" not in repr(mofgap.screen(same, model=tiny))


def test_a_default_screening_is_recorded_as_it_was_called(write_cifs: WriteCifs, tmp_path: Path) -> None:
    write_cifs(tmp_path, 1)
    table = mofgap.screen(tmp_path)
    assert table.attrs["mofgap_origin"]["command"] == "mofgap.screen(...)" and "pbe_gap_ev" in table


def test_a_path_is_a_folder_though_a_shipped_model_has_its_name(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model_folder, tmp_path / "qmof-pbe")
    monkeypatch.chdir(tmp_path)
    found = {mofgap.screen(crystals(1), model=m).model[0] for m in (Path("qmof-pbe"), "./qmof-pbe")}
    assert found == {"tiny"} and mofgap.screen(crystals(1), model="qmof-pbe").model[0] == "qmof-pbe"


def test_error_bars_that_are_not_calibrated_are_told(
    tiny: GapPredictor, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="tiny is not calibrated: its error bars are the network's own"):
        tiny.predict(crystals(1), return_std=True)
    with pytest.warns(UserWarning, match="is not calibrated"):
        table = mofgap.screen(crystals(1), model=model_folder)
    assert "not-calibrated: tiny is not calibrated: its error bars" in table.warnings[0]
    frame = pd.DataFrame(table).assign(model=str(model_folder))
    page = mofgap.Screening(frame).report(tmp_path / "page.html").read_text("utf-8")
    assert "is not calibrated: its error bars are the network&#39;s own" in page
    assert "calibrated on" not in page and "total is calibrated" not in page


def test_a_table_can_be_selected_from(tiny: GapPredictor, write_cifs: WriteCifs, tmp_path: Path) -> None:
    write_cifs(tmp_path / "cifs", 4)
    table = mofgap.screen(tmp_path / "cifs", (0.0, 9.0), model=tiny)
    found = mofgap.select(table, 2, model=tiny)
    assert len(found.table) == len(found.crystals) == 2 and "gap_ev" in repr(found)
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        mofgap.select(table, 0, model=tiny)
    in_memory = mofgap.screen(crystals(2), (0.0, 9.0), model=tiny)
    with pytest.raises(ValueError, match="was screened as an object; write it to a file"):
        mofgap.select(in_memory, 1, model=tiny)
    with pytest.raises(ConfigurationError, match="window"):
        mofgap.select(tmp_path / "t.csv", 2, "window", (2.0, None), model=tiny)  # type: ignore[arg-type]
    again = mofgap.select(tmp_path / "t.csv", 2, "window", (2.0, 3.0), model=tiny)
    assert set(again.table.structure_id) <= set(table.structure_id)
    assert len(found.write(tmp_path / "next", "poscar")) == 2
    assert pd.read_csv(tmp_path / "next" / "selection.csv").structure_id.tolist() == [
        *found.table.structure_id
    ]


@pytest.mark.filterwarnings("ignore:ZnFormate")
def test_a_structure_can_be_explained(tiny: GapPredictor, tmp_path: Path) -> None:
    (tmp_path / "ZnFormate.cif").write_text(write_cif(crystals(1)[0]))
    found = mofgap.explain(tmp_path / "ZnFormate.cif", tiny)
    assert len(found.atoms) == 5 and set(found.elements.element) == {"Zn", "O", "C", "H"}
    shares = found.elements.gap_share_ev.sum()
    assert shares == pytest.approx(found.attribution.gap_ev - found.attribution.reference_ev, abs=1e-4)
    assert "baseline" in repr(found) and " ± " in repr(found)
    assert len(found.plot().axes) >= 2


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("step", ["hydrogen_lengths", "bond_lengths"])
def test_a_structure_is_explained_with_the_steps_of_its_screening(tiny: GapPredictor, step: str) -> None:
    file = Path(__file__).parents[2] / "data" / "examples" / "MIL-53-Al-open_SABVUN.cif"
    switches: list[dict[str, Any]] = [{step: True}, {step: False}]
    taken = [mofgap.explain(file, tiny, **switch).crystal.warnings for switch in switches]
    assert [any(step.replace("_", "-") in text for text in texts) for texts in taken] == [True, False]


@pytest.mark.filterwarnings("ignore:structure-")
def test_gaps_are_written_into_atoms(tiny: GapPredictor, tmp_path: Path) -> None:
    atoms = [to_ase(crystal) for crystal in crystals(2)]
    assert mofgap.annotate(atoms, tiny) is atoms
    expected = tiny.predict(atoms)
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    read = ase.io.read(tmp_path / "a.xyz", index=":")
    np.testing.assert_allclose([each.info["gap_ev"] for each in read], expected, atol=1e-6)
    assert read[0].info["gap_level_of_theory"] == "PBE" and read[0].info["gap_std_ev"] > 0
    one = to_ase(crystals(1)[0])
    assert mofgap.annotate(one, tiny).info["gap_ev"] == pytest.approx(expected[0])
    assert len(mofgap.annotate(iter(atoms), tiny)) == 2
    for what, kind in ((["x.cif"], "str"), (Path("x.cif"), "PosixPath"), ({"x": one}, "dict")):
        with pytest.raises(TypeError, match=f"expected ASE Atoms, not {kind}"):
            mofgap.annotate(what, tiny)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_estimator_is_taken_where_a_model_is(
    tiny: GapPredictor, write_cifs: WriteCifs, tmp_path: Path
) -> None:
    (file,) = write_cifs(tmp_path, 1)
    table, estimator = mofgap.screen(file, (0.0, 9.0), model=tiny), mofgap.GapRegressor()
    calls: list[Callable[[], Any]] = [
        lambda: mofgap.screen(file, model=estimator).gap_ev[0],
        lambda: mofgap.explain(file, estimator).gap_ev,
        lambda: mofgap.annotate(to_ase(crystals(1)[0]), estimator).info["gap_ev"],
        lambda: mofgap.select(table, 1, model=estimator).table.gap_ev[0],
    ]
    for call in calls:
        with pytest.raises(NotFittedError):
            call()
    estimator.model_ = tiny
    assert [call() for call in calls] == pytest.approx([table.gap_ev[0]] * 4, abs=0.01)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_model_is_fitted_as_scikit_learn_does(model_folder: Path, tiny: GapPredictor) -> None:
    structures = crystals(4)
    gaps = np.array([1.0, 1.5, 2.0, 2.5])
    estimator = clone(mofgap.GapRegressor(str(model_folder), epochs=2, device="cpu"))
    assert estimator.get_params()["epochs"] == 2
    with pytest.raises(NotFittedError):
        estimator.predict(structures)
    with pytest.raises(NotFittedError, match="Call 'fit'"):
        mofgap.screen(structures, model=estimator)
    with pytest.raises(ValueError, match="as many gaps"):
        estimator.fit(structures, gaps[:2])
    for what in ("cifs", Path("cifs"), to_ase(structures[0]), iter(structures)):
        with pytest.raises(ValueError, match="expected a list of structures or of paths, not"):
            estimator.fit(what, gaps)
    with pytest.raises(ValueError, match="are they in meV"):
        estimator.fit(structures, 1000 * gaps)
    with pytest.raises(ValueError, match="gap 4 is 2500, and no solid has more than 25 eV"):
        estimator.fit(structures, [*gaps[:3], 1000 * gaps[3]])
    with pytest.raises(ValueError, match="no structures to fit"):
        estimator.fit([], [])
    with pytest.raises(ValueError, match="structure-2: no-cell"):
        estimator.fit([structures[0], ase.Atoms("H")], gaps[:2])
    for wrong in (-1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="gap 2"):
            estimator.fit(structures, [1.0, wrong, 1.0, 1.0])
    with pytest.raises(ConfigurationError, match="level_of_theory"):
        clone(estimator).set_params(level_of_theory=None).fit(structures, gaps)
    others = {"learning_rate": 1e-6, "kl_weight": 50.0, "seed": 3}
    assert clone(estimator.set_params(**others)).get_params() | others == estimator.get_params()
    slow = estimator.fit(structures, gaps).predict(structures)
    estimator.set_params(learning_rate=1e-3, kl_weight=0.1, seed=0)
    predicted = estimator.fit(structures, gaps).predict(structures)
    assert mofgap.screen(structures, model=estimator).model[0] == estimator.model_.about.name
    assert np.abs(slow - predicted).max() > 1e-3
    assert predicted.shape == (4,) and np.isfinite(estimator.score(structures, gaps))
    before = tiny.predict(structures)
    assert np.abs(predicted - gaps).mean() < np.abs(before - gaps).mean()
