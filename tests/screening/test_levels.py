from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
import torch

import mofgap
from mofgap.configuration import load
from mofgap.crystals.crystal import Crystal
from mofgap.encoders.crystal_transformer import CrystalTransformer
from mofgap.gap import predictor as predicting
from mofgap.gap.folder import ModelError, read_model, save_model
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.screening import reading
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.levels import LEVELS, MODELS, Level, functional, is_pbe, models_of
from mofgap.screening.row import COLUMNS, PBE_COLUMNS, Row, column_names
from mofgap.screening.table import FORMATS, read_table, to_frame, write_table
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.scaling import Scaling

WriteCifs = Callable[[Path, int], list[Path]]
WINDOW = (1.8, 3.0)


@pytest.fixture(scope="module")
def cifs(tmp_path_factory: pytest.TempPathFactory, write_cifs: WriteCifs) -> Path:
    """Good files, one with a bad block, and one with a metal that training never saw."""
    folder = tmp_path_factory.mktemp("cifs")
    one, two, three, _ = (path.read_text() for path in write_cifs(folder, 4))
    (folder / "t.cif").write_text(one + two.replace("_cell_length_a", "_x"))
    (folder / "gold.cif").write_text(three.replace("Zn", "Au"))
    return folder


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize(
    "how", [{}, {"coverage": 0.95}, {"uncertainty": "weights", "samples": 3}, {"samples": 0}]
)
def test_both_is_hse06_with_pbe_beside_it(cifs: Path, how: dict[str, object]) -> None:
    def table(level: Level) -> pd.DataFrame:
        return mofgap.screen(cifs, WINDOW, level=level, **how)  # type: ignore[arg-type]

    hse06, pbe, found = table("hse06"), table("pbe"), table("both")
    ordinary = list(hse06.columns)
    assert list(found.columns) == column_names(float(how.get("coverage", 0.9)), two_levels=True)  # type: ignore[arg-type]
    assert list(pbe.columns) == ordinary == list(found.columns)[: len(COLUMNS)]
    pd.testing.assert_frame_equal(found[ordinary], hse06)
    key = ["file", "structure_id"]
    beside = [name for name in found if name.startswith("pbe_")]
    alone = found[key].merge(pbe, on=key, how="left")
    for name in beside:
        pd.testing.assert_series_equal(found[name], alone[name.removeprefix("pbe_")], check_names=False)
    good = found.status != "failed"
    assert found[good].notna()[beside].all(axis=None) and found[~good][beside].isna().all(axis=None)
    assert set(found.level_of_theory[good]) == {"HSE06 at PBE-D3(BJ) geometry"}
    assert (found.gap_ev - found.pbe_gap_ev)[good].gt(0.5).all(), "the two models differ"


def test_an_interval_of_pbe_goes_by_novelty_to_its_own_model(cifs: Path, both: GapPredictor) -> None:
    """The structure is novel to the model of HSE06, and not to that of PBE."""
    spreads = (Residuals(tuple(np.linspace(-width, width, 99))) for width in (1, 3))
    assert both.second_level is not None
    near = replace(both.second_level.novelty, quantiles=both.second_level.novelty.quantiles + 1e3)
    split = Calibration(Scaling(), tuple(spreads), (0.5,))
    pbe = replace(both.second_level, calibration=split, novelty=near)
    far = replace(both.novelty, quantiles=both.novelty.quantiles * 1e-3)
    table = mofgap.screen(cifs / "s0.cif", model=replace(both, novelty=far, second_level=pbe))
    alone = mofgap.screen(cifs / "s0.cif", model=pbe)
    assert (table.novelty[0], alone.novelty[0]) == (1, 0)
    assert table.pbe_gap_lo90_ev[0] == alone.gap_lo90_ev[0]
    assert table.pbe_gap_hi90_ev[0] == alone.gap_hi90_ev[0]


def test_a_worker_gets_both_models(cifs: Path, both: GapPredictor) -> None:
    sent = pickle.loads(pickle.dumps(both))
    table = mofgap.screen(cifs, WINDOW, model=sent)
    pd.testing.assert_frame_equal(table, mofgap.screen(cifs, WINDOW, model=both))
    assert table.pbe_gap_ev.notna().any()


def test_each_structure_is_read_and_its_graph_made_once(
    cifs: Path, both: GapPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"graph": 0, "read": 0, "checks": 0}

    def counted(module: object, name: str, what: str) -> None:
        function = getattr(module, name)

        def count(*arguments: object, **named: object) -> object:
            counts[what] += 1
            return function(*arguments, **named)

        monkeypatch.setattr(module, name, count)

    counted(predicting, "crystal_graph", "graph")
    counted(reading, "read_prepared", "read")
    counted(reading, "check_crystal", "checks")
    table = mofgap.screen(cifs, model=both)
    n_good = int((table.status != "failed").sum())
    assert counts == {"graph": n_good, "read": len(list(cifs.iterdir())), "checks": n_good}


@pytest.mark.parametrize("how", [{}, {"uncertainty": "weights", "samples": 3}])
def test_what_lies_below_the_adapters_is_shared_only_where_it_is_the_same(
    cifs: Path, both: GapPredictor, model_folder: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    runs: list[object] = []
    run = CrystalTransformer.run_frozen
    monkeypatch.setattr(
        CrystalTransformer, "run_frozen", lambda *arguments: runs.append(None) or run(*arguments)
    )
    other, of_ruthenium, of_zinc = (load_model(model_folder, "cpu") for _ in range(3))
    with torch.no_grad():
        other.model.encoder.get_submodule("environment").weight.mul_(1.5)
        for beside, number in ((of_ruthenium, 44), (of_zinc, 30)):
            beside.model.encoder.element_tables[0].weight[number] += 0.5
    for beside, times in ((both.second_level, 1), (other, 2), (of_ruthenium, 1), (of_zinc, 2)):
        assert beside is not None
        runs.clear()
        table = mofgap.screen(cifs / "s0.cif", model=replace(both, second_level=beside), **how)
        assert len(runs) == times
        alone = mofgap.screen(cifs / "s0.cif", model=beside, **how)
        assert table.pbe_gap_ev[0] == alone.gap_ev[0] and table.pbe_gap_std_ev[0] == alone.gap_std_ev[0]


@pytest.mark.usefixtures("levels")
def test_tables_without_a_prediction_have_the_columns_too(cifs: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.cif").touch()
    gone = mofgap.screen([tmp_path / "empty.cif"], level="both")
    dropped = mofgap.screen(cifs / "gold.cif", level="both", novelty="drop", coverage=0.95)
    nothing = mofgap.screen([], level="both")
    assert list(gone.columns) == list(nothing.columns) == [*COLUMNS, *PBE_COLUMNS]
    assert len(dropped) == 0 and {"pbe_gap_lo95_ev", "pbe_gap_hi95_ev"} <= set(dropped.columns)
    assert gone.dtypes.equals(mofgap.screen(cifs, level="both").dtypes)


ROWS = [
    Row(
        1, "a.cif", "a", "ok", "", "CHO2Zn", 5, 3.5, 0.25, None, 0.2, 3.1, 3.9, 0.25, 0.5, "",
        "HSE06 at PBE-D3(BJ) geometry", "qmof-hse06", "x, y", 1.8, 3.0, 2.25, 0.125, 2.0, 2.5,
    ),
    Row(None, "b.cif", "b", "failed", "empty-file: why"),
]  # fmt: skip


@pytest.mark.parametrize("extension", sorted(FORMATS))
def test_every_format_holds_the_columns_beside(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{extension}"
    write_table(path, ROWS, column_names(0.95, two_levels=True))
    if extension == ".xlsx":
        header, first, second = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
        assert list(header) == column_names(0.95, two_levels=True)
        assert first[-4:] == (2.25, 0.125, 2.0, 2.5) and second[-4:] == (None,) * 4
    else:
        pd.testing.assert_frame_equal(read_table(path), to_frame(ROWS, column_names(0.95, two_levels=True)))


def test_other_levels_than_asked_for_are_refused(tiny: GapPredictor, tmp_path: Path) -> None:
    assert models_of("pbe", None) == ("qmof-pbe", None)
    assert models_of("hse06", None) == ("qmof-hse06", None)
    assert models_of(None, None) == models_of("both", None) == ("qmof-hse06", "qmof-pbe")
    assert models_of(None, "my-model") == ("my-model", None)
    with pytest.raises(ValueError, match="pbe, hse06, both"):
        models_of("pbe0", None)  # type: ignore[arg-type]
    for level in LEVELS:
        for model in ("qmof-pbe", tmp_path, tiny):
            with pytest.raises(ValueError, match="not both"):
                mofgap.screen([], model=model, level=level)


@pytest.mark.parametrize("written", ["HSE06", "Hse06", "hse06"])
def test_a_level_is_taken_in_any_case(written: str, tmp_path: Path) -> None:
    assert ScreeningConfig(level=written).level == "hse06"  # type: ignore[arg-type]
    (tmp_path / "c.yaml").write_text(f"level: {written}\n")
    assert load(ScreeningConfig, tmp_path / "c.yaml").models == ("qmof-hse06", None)


def test_a_level_whose_model_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "hse06", "qmof-hse07")
    for level in ("hse06", "both"):
        with pytest.raises(ModelError, match="qmof-hse07: neither"):
            mofgap.screen([], level=level)  # type: ignore[arg-type]


def test_models_of_other_graphs_do_not_stand_side_by_side(model_folder: Path, tmp_path: Path) -> None:
    from mofgap.gap.model import GapModel

    model, about, calibration, novelty = read_model(model_folder)
    settings = {**model.config.encoder_settings, "n_neighbours": 5}
    other = GapModel(replace(model.config, encoder_settings=settings))
    save_model(tmp_path / "other", other, replace(about, name="other"), calibration, novelty)
    with pytest.raises(ModelError, match=r"tiny .*other .*graphs"):
        load_model(model_folder, "cpu", tmp_path / "other")


@pytest.mark.parametrize(
    ("level", "pbe"),
    [
        ("PBE", True),
        ("PBE-D3(BJ)", True),
        ("pbe+U", True),
        ("PBE//PBE-D3", True),
        ("HSE06 at PBE-D3(BJ) geometry", False),
        ("HSE06//PBE-D3(BJ)", False),
        ("HSE06@PBE", False),
        ("HSE06 on PBE geometries", False),
        ("PBE0", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_what_counts_as_pbe(level: str, pbe: bool) -> None:
    assert is_pbe(level) is pbe


def test_a_functional_is_a_level_without_its_geometry() -> None:
    assert functional("HSE06 at PBE-D3(BJ) geometry") == functional("HSE06//PBE") == "HSE06"
    assert functional("PBE-D3(BJ)") == "PBE-D3(BJ)"


def test_estimates_of_two_models_are_those_of_each_alone(
    both: GapPredictor, tiny: GapPredictor, hse_folder: Path, cifs: Path
) -> None:
    from mofgap.crystals.inputs import read_all

    (crystal,) = read_all(cifs / "s0.cif")
    assert isinstance(crystal, Crystal)
    found, hse = both.estimate([crystal]), load_model(hse_folder, "cpu").estimate([crystal])
    pbe = tiny.estimate([crystal])
    assert found.second_level is not None and hse.second_level is None
    for name in ("gap_ev", "gap_std_ev", "epistemic_std_ev", "aleatoric_std_ev", "novelty"):
        np.testing.assert_array_equal(getattr(found, name), getattr(hse, name))
        np.testing.assert_array_equal(getattr(found.second_level, name), getattr(pbe, name))
    assert both.predict(crystal) == float(hse.gap_ev[0])
