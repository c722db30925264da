import json
from dataclasses import replace

import numpy as np
import pytest

from mofgap.uncertainty.calibrate import Calibration, fit_calibration

N = 400


def fitted(**groups) -> Calibration:
    rng = np.random.default_rng(0)
    gap, (epistemic, aleatoric) = rng.uniform(1, 3, N), rng.uniform(0.05, 0.3, (2, N))
    true = np.maximum(gap + rng.normal(0, 0.2, N), 0)
    return fit_calibration(true, gap, epistemic, aleatoric, [f"mof-{i}" for i in range(N)], **groups)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fitted()


def test_json_round_trip(calibration, tmp_path):
    novelty = np.arange(N) % 2
    split = fitted(novelty=novelty, novelty_edges=[0.5])
    for original in (calibration, split, Calibration.raw()):
        original.save(tmp_path / "calibration.json")
        assert Calibration.load(tmp_path / "calibration.json") == original
    damaged = replace(calibration, record=replace(calibration.record, crps_ev=float("nan")))
    with pytest.raises(ValueError, match="JSON"):
        damaged.save(tmp_path / "calibration.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=5), "calibration.json.* 5.* 4"),
        (lambda c: c.pop("version"), "None"),
        (lambda c: c.update(colour="red"), "colour"),
        (lambda c: c["scaling"].update(power=2), "power"),
        (lambda c: c["record"].pop("n_scaling"), "n_scaling"),
        (lambda c: c.pop("novelty_edges"), "novelty_edges"),
        (lambda c: c.update(novelty_edges=[0.5]), "distributions"),
        (lambda c: c.update(residuals=[]), "distributions"),
        (lambda c: c.update(experimental_std_ev=-0.1), "experimental_std_ev"),
        (lambda c: c.pop("experimental_std_ev"), "experimental_std_ev"),
        (lambda c: c.pop("equal_tails"), "equal_tails"),
        (lambda c: c.update(residuals=[[0.0, 1.0]]), "19 .* 2"),
    ],
)
def test_a_file_of_another_kind_is_refused(calibration, tmp_path, change, message):
    path = tmp_path / "calibration.json"
    calibration.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Calibration.load(path)


@pytest.mark.parametrize("threshold", [None, 0.8])
def test_files_of_version_1_are_read(calibration, tmp_path, threshold):
    path = tmp_path / "calibration.json"
    calibration.save(path)
    content = json.loads(path.read_text())
    for key in ("novelty_edges", "experimental_std_ev", "equal_tails"):
        del content[key]
    del content["record"]["coverage_90_by_group"]
    content |= {"version": 1, "novelty_threshold": threshold}
    content["residuals"] *= 1 if threshold is None else 2
    path.write_text(json.dumps(content))
    old = Calibration.load(path)
    assert old.novelty_edges == (() if threshold is None else (0.8,))
    assert old.record.coverage == calibration.record.coverage and old.record.coverage_90_by_group == ()
    symmetric = replace(calibration, equal_tails=False)
    np.testing.assert_array_equal(
        old.interval([2.0], [0.3], 0.9, [0.9]), symmetric.interval([2.0], [0.3], 0.9)
    )


@pytest.mark.parametrize(
    ("version", "unknown"), [(2, ("experimental_std_ev", "equal_tails")), (3, ("equal_tails",))]
)
def test_files_of_later_versions_are_read(calibration, tmp_path, version, unknown):
    path = tmp_path / "calibration.json"
    replace(calibration, experimental_std_ev=0.1).save(path)
    content = json.loads(path.read_text()) | {"version": version}
    for key in unknown:
        del content[key]
    path.write_text(json.dumps(content))
    added = 0.1 if version == 3 else None
    assert Calibration.load(path) == replace(calibration, experimental_std_ev=added, equal_tails=False)
