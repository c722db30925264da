from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
import pytest
import torch

from mofgap.choices import UNCERTAINTIES, Uncertainty
from mofgap.crystals.checks import is_unbalanced
from mofgap.crystals.cif import read_cif
from mofgap.crystals.convert import to_ase, to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif
from mofgap.gap.attribution import attribute
from mofgap.gap.error_bars import UNKNOWN_STD_EV
from mofgap.gap.posterior import Posterior
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.shipped import shipped_folder
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.scaling import Scaling
from mofgap.uncertainty.unbalanced import UNBALANCED_STD

MakeCrystal = Callable[..., Crystal]


def test_every_kind_of_structure_gives_the_same_gap(
    predictor: GapPredictor, make_crystal: MakeCrystal, tmp_path: Path
) -> None:
    crystal = make_crystal(0)
    path = tmp_path / "made.cif"
    path.write_text(write_cif(crystal))
    expected = predictor.predict(crystal)
    assert isinstance(expected, float)
    for structure in (to_pymatgen(crystal), to_ase(crystal), path, str(path)):
        assert predictor.predict(structure) == pytest.approx(expected, abs=1e-4), type(structure)


def test_structures_without_sense_are_refused_by_name(
    predictor: GapPredictor, make_crystal: MakeCrystal, tmp_path: Path
) -> None:
    good = make_crystal(0)
    nan, og = good.frac_coords * np.nan, np.array([118, *good.atomic_numbers[1:]])
    thin = replace(good, cell=good.cell * [[1], [1], [1e-5]])
    dummy = to_pymatgen(good)
    dummy.replace(0, "X")
    empty = ase.Atoms(cell=np.eye(3) * 5, pbc=True)
    (tmp_path / "el_Og.cif").write_text(write_cif(replace(good, atomic_numbers=og)))
    for name, structures in {
        "no-atoms": [empty],
        "bad-coordinates": [replace(good, frac_coords=nan)],
        "bad-cell": [
            thin,
            to_ase(thin),
            replace(good, cell=good.cell * np.nan),
            replace(good, cell=good.cell * 90),
        ],
        "overlapping-atoms": [
            to_ase(good) + to_ase(good)[:1],
            replace(good, frac_coords=good.frac_coords[[1, *range(1, good.n_atoms)]] + [[0.01, 0, 0]] * 1),
        ],
        "unknown-element": [replace(good, atomic_numbers=og), dummy, tmp_path / "el_Og.cif"],
    }.items():
        for structure in structures:
            with pytest.raises(ValueError, match=f"{name}: "):
                predictor.predict(structure)


def test_disordered_atoms_are_refused(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    atoms = to_ase(make_crystal(0))
    atoms.new_array("spacegroup_kinds", np.arange(len(atoms)))
    atoms.info["occupancy"] = {str(i): {symbol: 1.0} for i, symbol in enumerate(atoms.symbols)}
    expected = predictor.predict(atoms)
    atoms.info["occupancy"]["1"] = {str(atoms.symbols[1]): 0.5}
    with pytest.raises(ValueError, match="partial-occupancy: "):
        predictor.predict(atoms)
    assert predictor.predict(atoms[[i for i in range(len(atoms)) if i != 1]]) != expected


def test_an_element_that_was_never_seen_widens_the_error_bar(
    predictor: GapPredictor, make_crystal: MakeCrystal
) -> None:
    crystal = make_crystal(0)
    counts = predictor.novelty.element_counts.copy()
    counts[crystal.atomic_numbers] = 0
    unseen = replace(predictor, novelty=replace(predictor.novelty, element_counts=counts))
    counts = np.full_like(counts, 99)
    seen = replace(predictor, novelty=replace(predictor.novelty, element_counts=counts))
    before, after = seen.estimate([crystal]), unseen.estimate([crystal])
    assert after.gap_ev == before.gap_ev
    assert after.gap_std_ev == pytest.approx(1.25 * before.gap_std_ev), "read as no other"
    added = [total.gap_std_ev**2 - total.epistemic_std_ev**2 for total in (before, after)]
    assert added[1] == pytest.approx(added[0]), "it is the epistemic part that grows"
    assert after.aleatoric_std_ev == before.aleatoric_std_ev


def test_charges_that_do_not_add_up_widen_the_error_bar(
    predictor: GapPredictor, make_crystal: MakeCrystal
) -> None:
    (sound,) = read_cif(next(shipped_folder("examples").glob("SBMOF-1*.cif")).read_text())
    lacking = make_crystal(0)
    assert isinstance(sound, Crystal) and is_unbalanced(lacking) and not is_unbalanced(sound)
    fitted = Calibration(Scaling(), (Residuals(tuple(np.linspace(-2, 2, 99))),))
    crystals = [lacking, sound]
    before, after = (
        replace(predictor, calibration=c).estimate(crystals) for c in (Calibration.raw(), fitted)
    )
    added = [UNBALANCED_STD * before.gap_ev[0], 0.0]
    np.testing.assert_allclose(after.gap_std_ev, np.hypot(before.gap_std_ev, added))
    np.testing.assert_allclose(after.gap_ev, before.gap_ev)
    mean_only = replace(predictor, calibration=fitted).estimate(crystals, samples=0)
    assert mean_only.gap_std_ev[0] == pytest.approx(mean_only.aleatoric_std_ev[0])


def test_what_deserves_a_look_is_a_warning(predictor: GapPredictor, tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "data" / "examples"
    sound = next(shipped.glob("SBMOF-1*.cif"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*: (novel|rare-elements): ")  # of an untrained model
        predictor.predict(sound)
    (tmp_path / "bare.cif").write_text(re.sub(r"^H\d+ .*\n", "", sound.read_text(), flags=re.MULTILINE))
    with pytest.warns(UserWarning, match="bare: missing-hydrogens: "):
        predictor.predict(tmp_path / "bare.cif")


def test_what_training_never_saw_is_a_warning(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    strange = replace(make_crystal(0), structure_id="")
    strange.atomic_numbers[0] = 96
    with pytest.warns(UserWarning, match=r"structure-2: novel: no training structure has .*Cm"):
        predictor.predict([make_crystal(1), strange])


def test_a_structure_that_cannot_be_computed_is_named(
    predictor: GapPredictor, make_crystal: MakeCrystal, tmp_path: Path
) -> None:
    bad = replace(make_crystal(0), structure_id="")
    bad.frac_coords[0] = np.nan
    with pytest.raises(ValueError, match="structure-3: bad-coordinates"):
        predictor.predict([make_crystal(1), make_crystal(2), bad])
    with pytest.raises(TypeError, match="not dict"):
        predictor.predict(to_pymatgen(make_crystal(0)).as_dict())
    with pytest.raises(ValueError, match="the path of a file, not its text"):
        predictor.predict(write_cif(make_crystal(0)))
    with pytest.raises(ValueError, match="unreadable-file"):
        predictor.predict("x" * 5000)
    for kind in (FileNotFoundError, ValueError):
        with pytest.raises(kind, match=r"no\.cif: no such file; check the path$"):
            predictor.predict(tmp_path / "no.cif")
    for name in (tmp_path, tmp_path / "*.cif"):
        with pytest.raises(ValueError, match=r"mofgap\.screen"):
            predictor.predict(name)


def test_a_file_is_read_as_it_is_asked_for(predictor: GapPredictor, tmp_path: Path) -> None:
    path = Path(__file__).parents[1] / "fixtures" / "cifs" / "partial_occupancy.cif"
    with pytest.raises(ValueError, match="partial-occupancy: "):
        predictor.predict(path)
    with pytest.warns(UserWarning):
        assert predictor.predict(path, disorder="majority") >= 0
    with pytest.raises(ValueError, match="too-many-atoms: "):
        predictor.predict(path, disorder="majority", max_atoms=2)


def test_an_uncertainty_or_device_that_there_is_not(
    predictor: GapPredictor, make_crystal: MakeCrystal, model_folder: Path
) -> None:
    with pytest.raises(ValueError, match=r"uncertainty .*auto, distance, "):
        predictor.predict(make_crystal(0), True, uncertainty="closed_form", samples=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tiny: uncertainty distance needs "):
        predictor.predict(make_crystal(0), True, uncertainty="distance")
    with pytest.raises(ValueError, match=r"device .*auto, cpu.* gpu"):
        load_model(model_folder, "gpu")
    for device in ("cpu:0", torch.device("cpu")):
        assert load_model(model_folder, device).device == "cpu"  # type: ignore[arg-type]


def test_several_structures_give_arrays_in_their_order(
    predictor: GapPredictor, make_crystal: MakeCrystal
) -> None:
    crystals = [make_crystal(i, 3 + i) for i in range(4)]
    structures = [to_pymatgen(crystals[0]), crystals[1], to_ase(crystals[2]), crystals[3]]
    for several in (structures, tuple(structures), iter(structures)):
        gap_ev, std_ev = predictor.predict(several, return_std=True)
        assert gap_ev.shape == std_ev.shape == (4,)
        for i, crystal in enumerate(crystals):
            alone = predictor.predict(crystal, return_std=True)
            assert alone == pytest.approx((gap_ev[i], std_ev[i]), abs=1e-4)
    assert predictor.predict(structures).tolist() == pytest.approx(gap_ev.tolist(), abs=1e-5)
    assert predictor.predict([]).shape == (0,)


def test_an_estimate_is_the_same_in_any_company(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    crystals = [make_crystal(i, 3 + i) for i in range(4)]
    for how in ({}, {"uncertainty": "weights", "samples": 3}, {"uncertainty": "rows", "samples": 3}):
        together = predictor.estimate(crystals, **how)  # type: ignore[arg-type]
        again = predictor.estimate(crystals[::-1], **how)  # type: ignore[arg-type]
        for name in ("gap_ev", "gap_std_ev", "epistemic_std_ev", "aleatoric_std_ev", "novelty"):
            np.testing.assert_array_equal(getattr(together, name), getattr(again, name)[::-1])
        assert together.nearest == again.nearest[::-1]


def test_the_parts_of_the_spread_add_up(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    found = predictor.estimate([make_crystal(i) for i in range(3)])
    total = np.hypot(found.epistemic_std_ev, found.aleatoric_std_ev)
    np.testing.assert_allclose(found.gap_std_ev, total, rtol=1e-6)
    mean_only = predictor.estimate([make_crystal(i) for i in range(3)], samples=0)
    assert np.isnan(mean_only.epistemic_std_ev).all()
    np.testing.assert_allclose(mean_only.gap_std_ev, found.aleatoric_std_ev, rtol=1e-5)
    np.testing.assert_allclose(mean_only.gap_ev, found.gap_ev, atol=1e-5)


def test_no_error_bar_is_longer_than_that_of_an_unknown_gap(
    predictor: GapPredictor, make_crystal: MakeCrystal
) -> None:
    wild = replace(predictor.calibration, scaling=Scaling(1e6, 1.0, 0.0))
    found = replace(predictor, calibration=wild).estimate([make_crystal(0)])
    assert found.gap_std_ev == UNKNOWN_STD_EV
    (warning,) = predictor.novelty_warnings(make_crystal(0), found, 0)
    assert warning.startswith("novel: far from every training structure, or the model's error bars are wide")
    assert np.hypot(found.epistemic_std_ev, found.aleatoric_std_ev) == pytest.approx(UNKNOWN_STD_EV)
    noisy = replace(wild, scaling=Scaling(1.0, 1e6, 0.0))
    assert (
        replace(predictor, calibration=noisy).estimate([make_crystal(0)]).aleatoric_std_ev == UNKNOWN_STD_EV
    )


def test_calibration_scales_the_spread(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    raw = Calibration.raw()
    less = replace(raw, scaling=Scaling(0.5, 0.25))
    crystals = [make_crystal(i) for i in range(3)]
    before, after = (replace(predictor, calibration=c).estimate(crystals) for c in (raw, less))
    np.testing.assert_allclose(after.epistemic_std_ev, 0.5 * before.epistemic_std_ev)
    np.testing.assert_allclose(after.aleatoric_std_ev, 0.25 * before.aleatoric_std_ev)


@pytest.mark.parametrize("uncertainty", [kind for kind in UNCERTAINTIES if kind != "distance"])
def test_the_gap_does_not_depend_on_whether_its_spread_is_asked_for(
    predictor: GapPredictor, make_crystal: MakeCrystal, uncertainty: Uncertainty
) -> None:
    crystal = make_crystal(1)
    alone = predictor.predict(crystal, uncertainty=uncertainty, samples=3)
    assert alone == predictor.predict(crystal, True, uncertainty=uncertainty, samples=3)[0]


def test_one_sample_is_refused(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    with pytest.raises(ValueError, match="1 sample has no spread"):
        predictor.predict(make_crystal(1), True, uncertainty="weights", samples=1)


@pytest.mark.parametrize(("how", "told"), [({}, False), ({"uncertainty": "weights"}, True)])
def test_a_spread_that_the_calibration_does_not_know_is_a_warning(
    predictor: GapPredictor, make_crystal: MakeCrystal, how: dict[str, Any], told: bool
) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        predictor.predict(make_crystal(1), **how)
        assert not [w for w in found if "other-spread" in str(w.message)], "no error bar was asked for"
        predictor.predict(make_crystal(1), return_std=True, **how)
    assert any("other-spread" in str(w.message) for w in found) is told


def test_no_gap_is_below_zero(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    mean = float(predictor.model.gap_mean_ev)
    try:
        predictor.model.gap_mean_ev.fill_(-100.0)
        assert predictor.predict(make_crystal(0)) == 0.0
    finally:
        predictor.model.gap_mean_ev.fill_(mean)


def test_an_element_never_seen_is_named(predictor: GapPredictor, make_crystal: MakeCrystal) -> None:
    crystal = make_crystal(0)
    numbers = crystal.atomic_numbers.copy()
    numbers[0] = 92
    found = predictor.estimate([crystal, replace(crystal, atomic_numbers=numbers)])
    assert found.rare_elements[1][92] == 0
    assert 92 not in found.rare_elements[0]


def test_what_is_no_structure_is_refused(predictor: GapPredictor, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not int"):
        predictor.predict(7)
    with pytest.raises(TypeError, match="not dict"):
        predictor.predict([{}])
    with pytest.raises(ValueError, match=r"nowhere\.cif"):
        predictor.predict(tmp_path / "nowhere.cif")
    empty = tmp_path / "empty.cif"
    empty.write_text("")
    with pytest.raises(ValueError, match=r"empty\.cif: "):
        predictor.predict([str(empty)])


def test_a_file_of_several_structures_is_refused(
    predictor: GapPredictor, make_crystal: MakeCrystal, tmp_path: Path
) -> None:
    path = tmp_path / "two.cif"
    path.write_text("\n".join(write_cif(make_crystal(i)) for i in range(2)))
    with pytest.raises(ValueError, match=r"two\.cif .*several.*mofgap screen"):
        predictor.predict(path)


def test_a_saved_predictor_predicts_the_same(
    predictor: GapPredictor, folder: Path, make_crystal: MakeCrystal
) -> None:
    crystals = [make_crystal(i) for i in range(3)]
    expected = predictor.predict(crystals, return_std=True)
    found = load_model(folder, device="cpu").predict(crystals, return_std=True)
    np.testing.assert_array_equal(found, expected)


def test_a_missing_device_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device"):
        load_model(folder, device="cuda")


def test_inference_mode_and_other_defaults_change_nothing(
    predictor: GapPredictor, folder: Path, make_crystal: MakeCrystal
) -> None:
    crystal = make_crystal(0)
    expected = predictor.predict(crystal, return_std=True)
    share = attribute(predictor.model, crystal).variance_share_ev2
    with torch.inference_mode():
        assert predictor.predict(crystal, return_std=True) == expected
        assert np.array_equal(attribute(predictor.model, crystal).variance_share_ev2, share)
    torch.set_default_dtype(torch.float64)  # as some potentials do for all that comes after them
    try:
        loaded = load_model(folder, device="cpu")
        assert loaded.predict(crystal, return_std=True) == pytest.approx(expected, abs=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_shipped_model_bears_another_default_type() -> None:
    """Its other networks have virtual nodes; those of the test's own model have none."""
    path = next(shipped_folder("examples").glob("ZIF-8_*.cif"))
    model = load_model("qmof-pbe", device="cpu")
    expected = model.predict(path, return_std=True)
    torch.set_default_dtype(torch.float64)
    try:
        assert model.predict(path, return_std=True) == pytest.approx(expected, abs=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_standard_deviation_that_is_too_large_keeps_both_parts(predictor: GapPredictor) -> None:
    """A structure far from training is not one whose spread is aleatoric alone."""
    features = predictor.novelty.mean[None]
    far = Posterior(np.array([1.0]), np.array([30.0]), np.array([3.0]), features)
    found = replace(predictor, calibration=Calibration.raw()).calibrated(far, [[6]])
    assert found.gap_std_ev == UNKNOWN_STD_EV
    assert found.epistemic_std_ev > 9 * found.aleatoric_std_ev > 0


@pytest.mark.parametrize("uncertainty", ["closed-form", "weights"])
def test_threads_that_share_a_model_get_the_numbers_of_one(
    predictor: GapPredictor, make_crystal: MakeCrystal, uncertainty: Uncertainty
) -> None:
    crystals = [make_crystal(i, 5 + i) for i in range(4)] * 8

    def estimate(crystal: Crystal) -> tuple[float, float]:
        found = predictor.estimate([crystal], uncertainty=uncertainty, samples=3)
        shares = attribute(predictor.model, crystal).variance_share_ev2
        return float(found.gap_ev[0]), float(found.epistemic_std_ev[0] + shares.sum())

    alone = [estimate(crystal) for crystal in crystals[:4]] * 8
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(estimate, crystals)) == alone
