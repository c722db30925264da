from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mofgap
from mofgap.crystals.convert import to_ase, to_pymatgen
from mofgap.crystals.coordination import metal_coordination
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import expand_inputs
from mofgap.gap.folder import ModelError
from mofgap.gap.predictor import GapPredictor
from mofgap.screening import screen as screening
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.journal import Journal
from mofgap.screening.levels import MODELS
from mofgap.screening.reading import Reading
from mofgap.screening.row import COLUMNS

WriteCifs = Callable[[Path, int], list[Path]]


@pytest.fixture(scope="module")
def cifs(tmp_path_factory: pytest.TempPathFactory, write_mixed: Callable[[Path, int], Path]) -> Path:
    return write_mixed(tmp_path_factory.mktemp("cifs"), 4)


@pytest.fixture(scope="module")
def table(cifs: Path, tiny: GapPredictor) -> pd.DataFrame:
    return mofgap.screen(cifs, (1.8, 3.0), model=tiny)


def test_every_structure_and_failure_is_a_row(table: pd.DataFrame) -> None:
    assert tuple(table.columns) == COLUMNS
    failed = table[table.status == "failed"]
    assert failed.structure_id.tolist() == ["s1", "u"]
    assert failed.reason.str.split(":").str[0].tolist() == ["no-cell", "empty-file"]
    assert failed["rank"].isna().all() and failed.gap_ev.isna().all()
    assert sorted(table["rank"].dropna()) == [1, 2, 2, 3, 4]  # s0 is there twice
    assert sorted(table[table.status != "failed"].structure_id) == ["s0", "s0", "s1", "s2", "s3"]


def test_numbers_fit_together(table: pd.DataFrame) -> None:
    good = table[table.status != "failed"]
    assert good.p_in_window.between(0, 1).all() and good.p_in_window.is_monotonic_decreasing
    assert (good.gap_lo90_ev <= good.gap_ev).all() and (good.gap_ev <= good.gap_hi90_ev).all()
    total = np.hypot(good.epistemic_std_ev, good.aleatoric_std_ev)
    np.testing.assert_allclose(good.gap_std_ev, total, atol=2e-4)
    assert good.novelty.between(0, 1).all() and (good.formula == "CHO2Zn").all() and (good.n_atoms == 5).all()
    assert (good.level_of_theory == "PBE").all() and (good.model == "tiny").all()
    assert (good.window_lo_ev == 1.8).all() and (good.window_hi_ev == 3.0).all()
    assert good.nearest.str.split(" | ", regex=False).map(len).eq(3).all()
    assert good.nearest.str.startswith("train-").all()


def test_open_ends_of_a_window_are_left_blank(cifs: Path, tiny: GapPredictor) -> None:
    table = mofgap.screen(cifs / "s0.cif", (2.0, float("inf")), model=tiny)
    assert table.window_lo_ev.tolist() == [2.0] and table.window_hi_ev.isna().all()
    assert mofgap.screen(cifs / "s0.cif", model=tiny).window_lo_ev.isna().all()


def test_coverage_widens_the_intervals_and_names_them(
    cifs: Path, tiny: GapPredictor, table: pd.DataFrame
) -> None:
    wide = mofgap.screen(cifs, (1.8, 3.0), model=tiny, coverage=0.99)
    assert wide.gap_ev.equals(table.gap_ev)
    good = wide.status != "failed"
    assert (wide.gap_hi99_ev > table.gap_hi90_ev)[good].all() and "gap_hi90_ev" not in wide
    with pytest.raises(ValueError, match="coverage"):
        mofgap.screen(cifs, model=tiny, coverage=1.0)


def test_novel_structures_can_be_left_out_or_put_last(cifs: Path, tiny: GapPredictor) -> None:
    (crystal,) = crystals_in(cifs / "s0.cif")
    gold = replace(crystal, atomic_numbers=np.array([79, 8, 6, 8, 1]), structure_id="gold")
    kept, last, fewer = (
        mofgap.screen([str(cifs), gold], model=tiny, rank_by="std", novelty=novel)
        for novel in ("keep", "last", "drop")
    )
    assert kept.structure_id[kept.warnings.str.contains("novel: no training structure has Au")].tolist() == [
        "gold"
    ]
    assert last.structure_id[last["rank"] == last["rank"].max()].tolist() == ["gold"]
    assert len(fewer) == len(kept) - 1 and "gold" not in set(fewer.structure_id)
    assert (fewer.status == "failed").sum() == 2


def test_same_table_for_any_number_of_workers(cifs: Path, tiny: GapPredictor, table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(table, mofgap.screen(cifs, (1.8, 3.0), model=tiny, workers=2))


@pytest.mark.parametrize("name", ["tiny", "both"])
@pytest.mark.parametrize("batch_atoms", [1, 12, 4000])
def test_same_rows_in_batches_of_any_size(
    cifs: Path, name: str, batch_atoms: int, request: pytest.FixtureRequest
) -> None:
    model: GapPredictor = request.getfixturevalue(name)
    config = ScreeningConfig(batch_atoms=batch_atoms)
    sources = list(expand_inputs([cifs]))
    readings = [screening._read((source, ""), config=config) for source in sources]
    batched = [rows for _, rows in screening._in_batches(readings, model, config)]
    assert batched == list(screening.stream_rows(sources, model, config))


def test_inputs_that_were_done_before_do_not_wait_for_a_batch(tiny: GapPredictor) -> None:
    n_read = 0

    def readings() -> Iterator[Reading]:
        nonlocal n_read
        for i in range(10):
            n_read += 1
            yield Reading(f"{i}.cif", "", unchanged=True)

    results = screening._in_batches(readings(), tiny, ScreeningConfig())
    assert next(results)[0].source == "0.cif" and n_read == 2
    assert [reading.source for reading, _ in results] == [f"{i}.cif" for i in range(1, 10)]


def test_objects_give_the_numbers_of_their_files(cifs: Path, tiny: GapPredictor) -> None:
    (crystal,) = crystals_in(cifs / "s0.cif")
    for one in (crystal, to_pymatgen(crystal), to_ase(crystal)):
        alone = mofgap.screen(one, model=tiny)
        several = mofgap.screen([str(cifs / "s0.cif"), one], model=tiny)
        assert len(alone) == 1 and several.gap_ev.tolist() == alone.gap_ev.tolist() * 2
        assert several.gap_std_ev.nunique() == 1


def crystals_in(path: Path) -> list[Crystal]:
    from mofgap.crystals.inputs import read_all

    return [entry for entry in read_all(path) if isinstance(entry, Crystal)]


def test_objects_that_cannot_be_computed_fail_by_name(cifs: Path, tiny: GapPredictor) -> None:
    (good,) = crystals_in(cifs / "s0.cif")
    bad = {
        "no-atoms": replace(good, frac_coords=np.empty((0, 3)), atomic_numbers=np.empty(0, dtype=np.int64)),
        "bad-coordinates": replace(good, frac_coords=good.frac_coords * np.nan),
        "bad-cell": replace(good, cell=np.ones((3, 3))),
        "unknown-element": replace(good, atomic_numbers=good.atomic_numbers + 100),
        "too-many-atoms": good,
    }
    for name, crystal in bad.items():
        frame = mofgap.screen([crystal], model=tiny, max_atoms=4 if name == "too-many-atoms" else 1000)
        assert frame.status.tolist() == ["failed"] and frame.reason[0].startswith(f"{name}: ")
    with pytest.raises(TypeError):
        mofgap.screen([3.5], model=tiny)


def test_fewer_rows_than_one_cannot_be_kept(cifs: Path, tiny: GapPredictor) -> None:
    with pytest.raises(ValueError, match="top: must be at least 1, got -1"):
        mofgap.screen(str(cifs / "s0.cif"), model=tiny, top=-1)


def test_one_structure_that_breaks_the_model_leaves_the_others(cifs: Path, tiny: GapPredictor) -> None:
    crystals = [c for i in range(2) for c in crystals_in(cifs / f"s{i}.cif")]

    class Fragile(GapPredictor):
        def estimate(self, crystals, **settings):  # type: ignore[no-untyped-def]
            if any(c.structure_id == "s0" for c in crystals):
                raise RuntimeError("out of\nmemory")
            return super().estimate(crystals, **settings)

    fragile = Fragile(tiny.model, tiny.about, tiny.calibration, tiny.novelty, "cpu")
    frame = mofgap.screen(crystals, model=fragile)
    assert frame.structure_id.tolist() == ["s1", "s0"]
    assert frame.reason[1].startswith("prediction-failed: out of memory;")

    class Blind(GapPredictor):
        def estimate(self, crystals, **settings):  # type: ignore[no-untyped-def]
            found = super().estimate(crystals, **settings)
            lost = [c.structure_id == "s0" for c in crystals]
            return replace(found, gap_ev=np.where(lost, np.nan, found.gap_ev))

    blind = Blind(tiny.model, tiny.about, tiny.calibration, tiny.novelty, "cpu")
    frame = mofgap.screen(crystals, model=blind)
    assert frame.structure_id.tolist() == ["s1", "s0"] and "no finite gap" in frame.reason[1]


def test_unseen_elements_are_novel_and_rare_ones_named(cifs: Path, tiny: GapPredictor) -> None:
    (good,) = crystals_in(cifs / "s0.cif")
    strange = replace(good, atomic_numbers=np.array([92, 8, 6, 8, 1]))
    frame = mofgap.screen([strange], model=tiny)
    assert frame.novelty[0] == 1.0 and frame.status[0] == "warning"
    (novel,) = (text for text in frame.warnings[0].split(" | ") if text.startswith("novel: "))
    assert "no training structure has U" in novel and novel.count("train-") == 3

    counts = tiny.novelty.element_counts.copy()
    counts[30] = 2
    rare = replace(tiny, novelty=replace(tiny.novelty, element_counts=counts))
    assert "rare-elements: few training structures have Zn (2)" in mofgap.screen(good, model=rare).warnings[0]


def test_a_coordination_that_training_never_saw_is_novel(cifs: Path, tiny: GapPredictor) -> None:
    (good,) = crystals_in(cifs / "s0.cif")
    ((_, n),) = metal_coordination(good)
    counts = np.zeros_like(tiny.novelty.coordination_counts)
    counts[30, n + 1] = 5
    elsewhere = replace(tiny, novelty=replace(tiny.novelty, coordination_counts=counts))
    for novel, rows in (("keep", 1), ("drop", 0)):
        frame = mofgap.screen(good, model=elsewhere, novelty=novel)
        assert len(frame) == rows
    text = mofgap.screen(good, model=elsewhere).warnings[0]
    assert f"novel: no training structure has Zn with {n} neighbours; nearest are train-" in text
    counts[30, n] = 1
    assert "novel: no training structure has" not in mofgap.screen(good, model=elsewhere).warnings[0]


def test_facts_about_the_chemistry_are_no_warning_status(cifs: Path, tiny: GapPredictor) -> None:
    (good,) = crystals_in(cifs / "s0.cif")
    counts = np.full_like(tiny.novelty.element_counts, 99)
    everywhere = replace(tiny.novelty, element_counts=counts, quantiles=tiny.novelty.quantiles + 1e3)
    copper = replace(good, atomic_numbers=np.array([29, 8, 6, 8, 1]), warnings=())
    frame = mofgap.screen(copper, model=replace(tiny, novelty=everywhere))
    assert frame.warnings[0].startswith("open-shell-metal: ") and frame.status[0] == "ok"


def test_a_model_that_was_calibrated_anew_knows_the_gaps_of_the_first(cifs: Path, tiny: GapPredictor) -> None:
    """With the shipped model's name, each structure of a cell that it has no gaps of has a note."""
    large = [Crystal(60 * np.eye(3), np.random.default_rng(0).random((160, 3)), np.full(160, 30), "large")]
    for trained_as, noted in ((MODELS["hse06"], True), ("", False)):
        model = replace(tiny, about=replace(tiny.about, trained_as=trained_as))
        (warnings,) = mofgap.screen(large, model=model).warnings
        assert ("extrapolation" in warnings) == noted


@pytest.mark.parametrize("known", [True, False])
def test_a_row_whose_nearest_structures_have_no_known_gap_says_so(
    cifs: Path, tiny: GapPredictor, known: bool
) -> None:
    gaps = np.full(len(tiny.novelty.ids), 1.0 if known else np.nan, dtype=np.float32)
    about = replace(tiny.about, trained_as=MODELS["hse06"])
    model = replace(tiny, about=about, novelty=replace(tiny.novelty, gap_ev=gaps))
    (warnings,) = mofgap.screen(cifs / "s0.cif", model=model).warnings
    assert ("none of the most similar" in warnings) != known


def test_no_samples_means_no_epistemic_part(cifs: Path, tiny: GapPredictor) -> None:
    frame = mofgap.screen(cifs / "s0.cif", model=tiny, samples=0)
    assert frame.epistemic_std_ev.isna().all() and frame.gap_std_ev.notna().all()
    drawn = [mofgap.screen(cifs, model=tiny, uncertainty="weights", samples=3, seed=s) for s in (1, 1, 2)]
    pd.testing.assert_frame_equal(drawn[0], drawn[1])
    assert not drawn[0].equals(drawn[2])


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, False),
        ({"samples": 0}, True),
        ({"uncertainty": "closed-form"}, False),  # what auto is without a neighbour correction
        ({"uncertainty": "weights", "samples": 64}, True),
        ({"uncertainty": "rows", "samples": 16}, True),
    ],
)
def test_spreads_that_intervals_were_not_fitted_to_are_pointed_out(
    cifs: Path, tiny: GapPredictor, how: dict[str, Any], told: bool
) -> None:
    frame = mofgap.screen(cifs / "s0.cif", model=tiny, **how)
    assert ("other-spread: " in frame.warnings[0]) is told
    assert not told or frame.status[0] == "warning"
    assert ("moves the gap too" in frame.warnings[0]) is (how.get("uncertainty") == "rows")


def test_a_spread_that_the_model_does_not_have_is_refused_before_the_work(
    cifs: Path, tiny: GapPredictor
) -> None:
    with pytest.raises(ValueError, match=r"tiny: .*distance"):
        mofgap.screen(cifs, model=tiny, uncertainty="distance")


def test_changed_files_are_done_again_and_others_not(
    tmp_path: Path, tiny: GapPredictor, write_cifs: WriteCifs
) -> None:
    paths = write_cifs(tmp_path / "in", 3)
    config = ScreeningConfig()

    def run(resume: bool) -> tuple[list[object], set[str]]:
        journal = Journal(tmp_path / "journal", {}, resume=resume)
        before = set(journal.path.read_bytes().splitlines())
        rows = list(screening.stream_rows(expand_inputs(paths), tiny, config, journal=journal))
        journal.close()
        added = set(journal.path.read_bytes().splitlines()) - before
        return rows, {str(path) for path in paths if any(str(path).encode() in line for line in added)}

    first, added = run(resume=False)
    assert added == set(map(str, paths))
    paths[1].write_bytes(paths[2].read_bytes())
    again, added = run(resume=True)
    assert added == {str(paths[1])}
    assert [again[0], again[2]] == [first[0], first[2]] and again[1] != first[1]


def test_what_failed_for_want_of_memory_is_tried_again(
    tmp_path: Path, tiny: GapPredictor, write_cifs: WriteCifs
) -> None:
    class Busy(GapPredictor):
        def estimate(self, crystals, **settings):  # type: ignore[no-untyped-def]
            raise MemoryError

    busy = Busy(tiny.model, tiny.about, tiny.calibration, tiny.novelty, "cpu")
    paths = write_cifs(tmp_path / "in", 2)
    status = []
    for resume, predictor in enumerate((busy, tiny)):
        journal = Journal(tmp_path / "journal", {}, resume=bool(resume))
        rows = list(
            screening.stream_rows(expand_inputs(paths), predictor, ScreeningConfig(), journal=journal)
        )
        journal.close()
        status.append({row.status for each in rows for row in each})
    assert status[0] == {"failed"} and "failed" not in status[1]


class Deadly(GapPredictor):
    """Ends the process that computes ``s1.cif``."""

    def estimate(self, crystals, **settings):  # type: ignore[no-untyped-def]
        if any(crystal.source.endswith("s1.cif") for crystal in crystals):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().estimate(crystals, **settings)


@pytest.mark.usefixtures("functions_of_tests")
def test_what_ended_its_run_fails_by_name_and_is_passed_over(
    tmp_path: Path, tiny: GapPredictor, write_cifs: WriteCifs
) -> None:
    deadly = Deadly(tiny.model, tiny.about, tiny.calibration, tiny.novelty, "cpu")
    paths = write_cifs(tmp_path / "in", 3)
    killed = Journal(tmp_path / "journal", {}, resume=False)
    killed.begin(str(paths[1]))
    killed.close()
    rows = []
    for _ in range(2):
        journal = Journal(tmp_path / "journal", {}, resume=True)
        stream = screening.stream_rows(expand_inputs(paths), deadly, ScreeningConfig(), journal=journal)
        rows.append([row for each in stream for row in each])
        journal.close()
        assert [row.status == "failed" for row in rows[-1]] == [False, True, False]
        assert rows[-1][1].file == str(paths[1]) and rows[-1][1].reason.startswith("process-died: ")
    assert rows[0] == rows[1] and str(paths[1]) in journal.finished


def test_wrong_arguments_are_named(tiny: GapPredictor, tmp_path: Path) -> None:
    for wrong in (
        {"window": (3.0, 1.8)},
        {"window": (float("nan"), 1.8)},
        {"uncertainty": "guess"},
        {"disorder": "ignore"},
        {"samples": -1},
        {"samples": 1, "uncertainty": "weights"},
        {"max_atoms": 0},
        {"workers": 0},
        {"rank_by": "window"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
            mofgap.screen([], model=tiny, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no-such"):
        mofgap.screen([], model="no-such")
    with pytest.raises(FileNotFoundError, match=r"nothing\.cif"):
        mofgap.screen([str(tmp_path / "nothing.cif")], model=tiny)
