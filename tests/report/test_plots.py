from __future__ import annotations

import inspect
import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mofgap.report import plots
from mofgap.report.figure import caption_of, inline_svg, save
from mofgap.uncertainty import metrics

WINDOW = (1.8, 3.0)


def table(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    gap, std = rng.uniform(0, 5, n), rng.uniform(0.1, 0.6, n)
    return pd.DataFrame(
        {
            "true": np.maximum(gap + std * rng.standard_normal(n), 0),
            "gap": gap,
            "std": std,
            "lo": gap - std,
            "hi": gap + std,
            "p": rng.uniform(0, 1, n),
            "name": [f"s{i}" for i in range(n)],
            "samples": np.arange(n) % 128,
            "method": [f"m{i % 3}" for i in range(n)],
        }
    )


def methods(df: pd.DataFrame) -> tuple[dict[str, pd.Series], dict[str, pd.Series]]:
    """Predictions and spreads of two methods."""
    return {"one": df.gap, "other": df.gap + 0.1}, {"one": df["std"], "other": df["std"] * 2}


DRAW: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "parity": lambda df: plots.parity("true", "gap", "std", df=df),
    "parity of methods": lambda df: plots.parity("true", *methods(df), df=df),
    "parity in panels": lambda df: plots.parity("true", *methods(df), df=df, panels=True),
    "error_vs_std": lambda df: plots.error_vs_std("true", "gap", "std", df=df),
    "error_vs_std of methods": lambda df: plots.error_vs_std("true", *methods(df), df=df),
    "error_vs_std in panels": lambda df: plots.error_vs_std("true", *methods(df), df=df, panels=True),
    "error_decay_with_uncert": lambda df: plots.error_decay_with_uncert("true", "gap", "std", df=df),
    "error_decay_with_uncert of methods": lambda df: plots.error_decay_with_uncert(
        "true", *methods(df), df=df
    ),
    "qq_gaussian": lambda df: plots.qq_gaussian("true", "gap", "std", df=df),
    "qq_gaussian of methods": lambda df: plots.qq_gaussian("true", *methods(df), df=df),
    "p_in_window_reliability": lambda df: plots.p_in_window_reliability("true", "p", WINDOW, df=df),
    "p_in_window_reliability of methods": lambda df: plots.p_in_window_reliability(
        "true", {"one": "p", "other": df.p**2}, WINDOW, df=df
    ),
    "top_intervals": lambda df: plots.top_intervals("name", "gap", "lo", "hi", df=df, window=WINDOW),
    "gap_vs_std": lambda df: plots.gap_vs_std("gap", "std", df=df, window=WINDOW),
    "metric_vs_samples": lambda df: plots.metric_vs_samples(
        "samples", "gap", "method", df=df, lo="lo", hi="hi"
    ),
    "metric_vs_cost": lambda df: plots.metric_vs_cost("std", "gap", "method", df=df, lo="lo", hi="hi"),
    "gap_histogram": lambda df: plots.gap_histogram("gap", df=df, window=WINDOW),
}
"""Every figure function, by its name and what is drawn with it."""

each_plot = pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW.keys())


def texts(figure: Figure) -> str:
    axes = figure.axes[0]
    legends = [legend for legend in (axes.get_legend(), *figure.legends) if legend]
    found = [*axes.texts, *axes.get_yticklabels(), *(text for each in legends for text in each.get_texts())]
    return "\n".join(text.get_text() for text in found)


def test_every_figure_function_is_drawn_here() -> None:
    modules = [
        import_module(f"{plots.__name__}.{found.name}") for found in pkgutil.iter_modules(plots.__path__)
    ]
    returning_figures = {
        name
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and function.__annotations__["return"] == "Figure"
    }
    assert returning_figures == set(plots.__all__) == {name.split()[0] for name in DRAW}


@each_plot
@pytest.mark.filterwarnings("error")
def test_empty_table_says_so(draw: Callable[[pd.DataFrame], Figure]) -> None:
    figure = draw(table(0))
    assert "no rows" in texts(figure)
    assert inline_svg(figure, "x").startswith("<svg")


@each_plot
@pytest.mark.filterwarnings("error")
def test_one_row(draw: Callable[[pd.DataFrame], Figure]) -> None:
    figure = draw(table(1))
    assert re.search(r"\b1 (structure|setting)\b", caption_of(figure))
    assert inline_svg(figure, "x").startswith("<svg")


@each_plot
@pytest.mark.filterwarnings("error")
def test_rows_without_a_value_are_left_out_and_counted(draw: Callable[[pd.DataFrame], Figure]) -> None:
    df = table(30)
    df.loc[3, ["true", "gap"]] = np.nan
    df.loc[7, ["gap", "p"]] = np.nan
    assert re.search(r"28 (structures|settings) \(2 without a value left out\)", caption_of(draw(df)))
    df[["true", "gap", "std", "lo", "hi", "p"]] = np.nan
    assert "no rows" in texts(draw(df))


@each_plot
@pytest.mark.filterwarnings("error")
def test_many_rows_stay_small(draw: Callable[[pd.DataFrame], Figure]) -> None:
    figure = draw(table(100_000))
    assert "100,000" in caption_of(figure)
    assert len(inline_svg(figure, "x")) < 1_000_000


@each_plot
def test_files_are_the_same_each_time(draw: Callable[[pd.DataFrame], Figure], tmp_path: Path) -> None:
    for name in ("a", "b"):
        for kind in ("svg", "png"):
            save(draw(table(5)), tmp_path / f"{name}.{kind}")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["parity", "error_vs_std"])
def test_many_methods_stay_small_together(name: str) -> None:
    df = table(1000)
    gaps = {f"m{i}": df.gap + i for i in range(5)}
    figure = getattr(plots, name)("true", gaps, dict.fromkeys(gaps, "std"), df=df, panels=True)
    assert len(inline_svg(figure, "x")) < 400_000


@pytest.mark.parametrize("name", ["parity", "error_vs_std", "error_decay_with_uncert", "qq_gaussian"])
def test_words_of_many_methods_find_room(name: str) -> None:
    df = table(30)
    gaps = {f"LoRA, last-layer Laplace of {i} + neighbours": df.gap + i for i in range(15)}
    panels = {"panels": True} if name in ("parity", "error_vs_std") else {}
    figure = getattr(plots, name)("true", gaps, dict.fromkeys(gaps, "std"), df=df, **panels)
    figure.draw_without_rendering()
    words = [text for legend in figure.legends for text in legend.get_texts()]
    words += [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    places = [text.get_window_extent() for text in words if text.get_text()]
    for i, place in enumerate(places):
        assert figure.bbox.x0 <= place.x0 and place.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= place.y0 and place.y1 <= figure.bbox.y1
        assert not any(place.overlaps(other) for other in places[:i])
    assert all(axes.bbox.height > 1.2 * figure.dpi for axes in figure.axes)
    assert sum(text.get_text() == "oracle" for text in words) == (name == "error_decay_with_uncert")


def test_arrays_and_names_are_the_same() -> None:
    df = table(20)
    by_name = plots.parity("true", "gap", "std", df=df)
    by_array = plots.parity(df.true.to_numpy(), df.gap.tolist(), df["std"])
    assert inline_svg(by_name, "x") == inline_svg(by_array, "x")


def test_figures_show_the_metrics() -> None:
    df = table(200)
    columns = df.true, df.gap, df["std"]
    assert f"MAE {metrics.mae(df.true, df.gap):.3f} eV" in texts(plots.parity(*columns))
    rho, ideal = metrics.spearman(*columns), metrics.expected_spearman(df["std"])
    assert f"ρ {rho:.2f} [{ideal:.2f}]" in texts(plots.error_vs_std(*columns))
    assert f"area {metrics.miscalibration_area(*columns):.3f}" in texts(plots.qq_gaussian(*columns))
    assert f"AUSE {metrics.ause(*columns):.2f}" in texts(plots.error_decay_with_uncert(*columns))


@pytest.mark.parametrize("name", ["parity", "error_vs_std", "error_decay_with_uncert", "qq_gaussian"])
def test_methods_have_their_own_predictions(name: str) -> None:
    df = table(50)
    y_pred = {"one": df.gap, "other": df.gap + 1}
    figure = getattr(plots, name)("true", y_pred, {"one": "std", "other": df["std"] * 2}, df=df)
    assert "one: " in texts(figure) and "other: " in texts(figure)
    with pytest.raises(ValueError, match="third"):
        getattr(plots, name)(df.true, y_pred, {"third": df["std"]})


def test_error_decay_starts_at_the_error_of_all_and_lies_above_the_oracle() -> None:
    df = table(100)
    axes = plots.error_decay_with_uncert("true", "gap", "std", df=df).axes[0]
    line, oracle = (np.asarray(found.get_xydata()) for found in axes.lines[:2])
    assert line[-1] == pytest.approx([0, metrics.mae(df.true, df.gap)])
    assert (line[:, 1] >= oracle[:, 1] - 1e-12).all()


def test_error_decay_does_not_depend_on_the_order_of_rows_with_equal_spreads() -> None:
    df = table(100).assign(std=0.5)
    axes = plots.error_decay_with_uncert("true", "gap", "std", df=df).axes[0]
    line = np.asarray(axes.lines[0].get_xydata())
    np.testing.assert_allclose(line[:, 1], metrics.mae(df.true, df.gap))


def test_reliability_counts_hits() -> None:
    figure = plots.p_in_window_reliability([2.0, 2.5, 4.0, 5.0], [0.75, 0.75, 0.75, 0.05], WINDOW)
    points = np.asarray(figure.axes[0].lines[1].get_xydata())
    assert points == pytest.approx(np.array([[0.05, 0], [0.75, 2 / 3]]))
    with pytest.raises(ValueError, match="between 0 and 1"):
        plots.p_in_window_reliability([2.0], [1.5], WINDOW)


def test_names_are_text_and_not_markup_or_formulas() -> None:
    df = table(3).assign(name=["<script>alert(1)</script>", "$\\frac{", "x" * 80])
    svg = inline_svg(DRAW["top_intervals"](df), "x")
    assert "&lt;script&gt;" in svg and "<script" not in svg and "$\\frac{" in svg and "x" * 40 not in svg


def test_intervals_are_numbered_by_rank_where_there_is_one() -> None:
    df = table(3).assign(rank=pd.array([4, 7, 9], "Int64"))
    columns = ("name", "gap", "lo", "hi")
    for rank, numbers in ((None, "123"), ("rank", "479")):
        axes = plots.top_intervals(*columns, df=df, rank=rank).axes[0]
        assert [label.get_text()[0] for label in axes.get_yticklabels()] == list(numbers)


def test_svg_ids_are_prefixed_and_refer_to_each_other() -> None:
    svg = inline_svg(DRAW["parity"](table(10)), "left")
    ids = re.findall(r'\bid="([^"]*)"', svg)
    used = re.findall(r'(?:url\(#|href="#)([^")]*)', svg)
    assert ids and len(set(ids)) == len(ids) and all(name.startswith("left-") for name in ids)
    assert used and set(used) <= set(ids)


@pytest.mark.parametrize("window", [(1.0, np.inf), (-np.inf, 2.0), (-np.inf, np.inf), (9.0, 12.0)])
@pytest.mark.parametrize("name", ["top_intervals", "gap_vs_std", "gap_histogram"])
def test_windows_may_be_open_or_far_away(name: str, window: tuple[float, float]) -> None:
    columns = {"top_intervals": ("name", "gap", "lo", "hi"), "gap_vs_std": ("gap", "std")}
    for n in (0, 5):
        figure = getattr(plots, name)(*columns.get(name, ("gap",)), df=table(n), window=window)
        assert "is shaded" in caption_of(figure) and "inf" not in caption_of(figure)
        assert inline_svg(figure, "x").startswith("<svg")


@pytest.mark.parametrize("name", ["parity", "error_vs_std"])
def test_methods_may_have_panels_of_their_own(name: str) -> None:
    df = table(50).assign(none=np.nan)
    spreads = {"one": "std", "other": "std", "third": "none"}
    figure = getattr(plots, name)("true", "gap", spreads, df=df, panels=True)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == list(spreads)
    limits = {axes.get_ylim() for axes in figure.axes}
    assert len(limits) == 1 and figure.axes[2].texts[0].get_text() == "no rows to show"


def test_samples_draw_lines_and_methods_without_them_cross_the_figure() -> None:
    df = pd.DataFrame(
        {
            "n": [0, 4, 2, 0],
            "rho": [0.3, 0.2, 0.1, np.nan],
            "method": ["closed form", "draws", "draws", "draws"],
        }
    )
    figure = plots.metric_vs_samples("n", "rho", "method", df=df, metric="Spearman")
    across, line = figure.axes[0].lines
    assert np.asarray(across.get_ydata()).tolist() == [0.3, 0.3]
    assert np.asarray(line.get_xydata()).tolist() == [[2, 0.1], [4, 0.2]]
    with pytest.raises(ValueError, match="negative"):
        plots.metric_vs_samples([-1], [0.1], ["a"])
    with pytest.raises(ValueError, match="above 0"):
        plots.metric_vs_cost([0.0], [0.1], ["a"])
    for plot in (plots.metric_vs_samples, plots.metric_vs_cost):
        with pytest.raises(ValueError, match=r"lo .*\(3,\)"):
            plot([1.0, 2.0], [0.1, 0.2], ["a", "a"], lo=[0.0, 0.0, 0.0], hi=[1.0, 1.0])
        with pytest.raises(ValueError, match=r"hi .*\(1,\)"):
            plot([1.0, 2.0], [0.1, 0.2], ["a", "a"], lo=[0.0, 0.0], hi=[1.0])


def test_wrong_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        plots.gap_vs_std([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="negative"):
        plots.parity([1.0], [1.0], [-1.0])
    with pytest.raises(ValueError, match="no df"):
        plots.gap_histogram("gap")
    with pytest.raises(KeyError):
        plots.gap_histogram("no such column", df=table(1))


def test_names_of_outliers_do_not_lie_on_each_other() -> None:
    df = table(100)
    df.loc[:9, "gap"], df.loc[:9, "std"] = np.linspace(1.0, 2.0, 10), 2.3
    names = [text.get_text() for text in plots.gap_vs_std("gap", "std", df=df, names="name").axes[0].texts]
    assert "s0" in names and not {f"s{i}" for i in range(1, 10)} & set(names)
