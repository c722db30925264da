from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.report.elements import colours_of
from mofgap.report.formula import with_subscripts
from mofgap.report.origin import model_origins
from mofgap.report.plots.screening import gap_vs_std, histogram_edges, top_intervals
from mofgap.report.structures import draw
from mofgap.shipped import CONFIG, shipped_folder
from mofgap.version import today
from mofgap.whole_file import sha256_of


def test_the_date_is_that_of_the_source_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert today() == "1970-01-02"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert today() > "2024"


def test_models_bring_their_data_set_and_card(model_folder: Path) -> None:
    names = ["qmof-hse06", "no-such-model", str(model_folder)]
    shipped, unknown, tiny = model_origins(dict.fromkeys(names))
    assert "QMOF" in shipped.citation and "HSE06" in shipped.level and shipped.card.startswith("# qmof-hse06")
    assert (unknown.level, unknown.citation, unknown.card) == ("", "", "")
    assert tiny.level == "PBE" and tiny.card == ""


def test_another_model_of_the_name_brings_nothing() -> None:
    digest = sha256_of(shipped_folder("models") / "qmof-pbe" / CONFIG)
    same, other = (model_origins({"qmof-pbe": each})[0] for each in (digest, "0" * 64))
    assert same == model_origins({"qmof-pbe": None})[0] and same.card and not same.is_other
    assert other.is_other and (other.level, other.citation, other.card) == ("", "", "")


def test_counts_of_a_formula_are_set_low_and_markup_is_text() -> None:
    assert with_subscripts("C24H12O13Zn4") == ("C<sub>24</sub>H<sub>12</sub>O<sub>13</sub>Zn<sub>4</sub>")
    assert with_subscripts("") == "" and with_subscripts("2-BDC") == "2-BDC"
    assert "<b>" not in with_subscripts("<b>C2</b>")


def test_elements_have_the_colours_of_jmol() -> None:
    colours = colours_of(["Zn", "O", "F", "Si", "Xx", "O"])
    assert list(colours) == ["O", "F", "Si", "Zn"] and colours["O"] == "#ff0d0d"
    assert colours["Zn"] == "#7d80b0" and colours["F"] != colours["Si"]


@pytest.mark.parametrize("window", [(1.8, 3.0), (2.0, float("inf")), (1.0, 1.001), (0.0, 9.0)])
def test_no_bin_lies_across_an_end_of_the_window(window: tuple[float, float]) -> None:
    values = np.random.default_rng(0).uniform(0.3, 5.0, 200)
    edges = np.array(histogram_edges(values, window))
    assert (np.diff(edges) > 0).all() and edges[0] <= values.min() and edges[-1] >= values.max()
    assert len(edges) < 200 and edges[0] >= 0
    for end in window:
        if edges[0] < end < edges[-1]:
            assert np.abs(edges - end).min() < 1e-9
    assert np.histogram(values, edges)[0].sum() == len(values)


@pytest.mark.parametrize("values", [[2.31, 2.3103], [2.0, 2.5, 4.0]])
@pytest.mark.parametrize("window", [(1.8, 3.0), (1.8, 1e5)])
def test_a_window_that_is_wide_beside_the_values_has_few_bins(
    values: list[float], window: tuple[float, float]
) -> None:
    edges = np.array(histogram_edges(np.array(values), window))
    assert len(edges) < 200 and (np.diff(edges) > 0).all()
    assert np.histogram(values, edges)[0].sum() == len(values)


def test_a_name_needs_a_table() -> None:
    gaps = np.linspace(1, 2, 20)
    with pytest.raises(ValueError, match="'name' names a column, but there is no df"):
        gap_vs_std(gaps, gaps, names="name")
    with pytest.raises(ValueError, match="'name' names a column, but there is no df"):
        top_intervals("name", gaps, gaps, gaps)
    with pytest.raises(ValueError, match="n_top must be 1 or more, not 0"):
        top_intervals(gaps, gaps, gaps, gaps, n_top=0)


def test_odd_values_have_bins() -> None:
    for values in ([2.0], [2.0, 2.0], [0.0, 0.0]):
        for window in (None, (1.8, 3.0), (2.0, 2.0), (2.0, 5.0), (0.0, 2.0), (7.0, 9.0)):
            edges = histogram_edges(np.array(values), window)
            assert np.histogram(values, edges)[0].sum() == len(values)


def test_no_bin_of_equal_values_lies_across_an_end_of_the_window() -> None:
    edges = np.array(histogram_edges(np.array([2.48, 2.48]), (2.496, 4.732)))
    assert edges[0] <= 2.48 and np.abs(edges - 2.496).min() < 1e-9


def test_outliers_are_named() -> None:
    gaps, stds = np.linspace(1, 2, 20), np.full(20, 0.3)
    stds[7] = 2.0
    figure = gap_vs_std(gaps, stds, names=[f"s{i}" for i in range(20)])
    assert [text.get_text() for text in figure.axes[0].texts] == ["s7"]
    assert not gap_vs_std(gaps, stds).axes[0].texts


def test_metals_have_their_polyhedron() -> None:
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.15
    crystal = Crystal(
        np.eye(3) * 12, np.vstack([np.full(3, 6.0), 6 + corners]) / 12, np.array([30, 8, 8, 8, 8])
    )
    ((metal, faces),) = draw(crystal).polyhedra
    assert draw(crystal).symbols[metal] == "Zn" and len(faces) == 4
    flat = Crystal(np.eye(3) * 12, crystal.frac_coords[[0, 1, 2]], np.array([30, 8, 8]))
    assert draw(flat).polyhedra == []
