"""The look of every figure, its caption, and figures as files or as part of a page."""

from __future__ import annotations

import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, GRID, WINDOW = "#22272e", "#d7dbe0", "#f0c75e"
SERIES = (
    "#3577b8", "#d1603d", "#3f9168", "#9467bd", "#b3882c", "#7f7f7f", "#c2527f", "#2a8f9c", "#8c6d4f"
)  # fmt: skip
"""Colours of methods, in order; each has a contrast of 3 or more on white and on the page's dark ground."""

MAX_VECTOR_POINTS = 3000
"""More points than this are drawn as pixels, or an SVG would weigh tens of megabytes."""

MAX_INSIDE = 3
"""Entries of a legend that find room between the curves."""

_MAX_COLUMN_CHARACTERS = 34
"""Longer entries of a legend have no room for another next to them."""

_ROWS_ABOVE, _ROW_INCH = 4, 0.17
"""Rows of a legend above the axes that leave them large enough, and the height of each further one."""

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
}
_CAPTION = "caption"
CHARACTERS_AN_INCH = 17
_ON_PAGE = {INK: "var(--ink)", GRID: "var(--rule)", WINDOW: "var(--window)", SERIES[0]: "var(--bar)"}


def line_style(i: int) -> dict[str, Any]:
    """Colour of the i-th method's line and, once the colours have run out, dashes, for matplotlib."""
    return {"color": SERIES[i % len(SERIES)], "linestyle": "-" if i < len(SERIES) else "-."}


class NotebookFigure(Figure):
    """A figure that a notebook shows, without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with _quiet():
            self.savefig(buffer, format="png", dpi=120, facecolor="white", metadata={"Software": None})
        return buffer.getvalue()


def new_axes(caption: str, width_inch: float = 5.4, height_inch: float = 4.0) -> Axes:
    """Axes of a figure of their own, the caption below; nothing of pyplot's state is touched."""
    return new_panels(caption, 1, width_inch, height_inch)[0]


def new_panels(
    caption: str,
    n: int,
    width_inch: float = 5.4,
    height_inch: float = 4.0,
    *,
    n_columns: int = 1,
    share_x: bool = True,
) -> list[Axes]:
    """Axes of one figure in rows of ``n_columns``, on the same scales, the caption below them all.

    Args:
        caption: What is shown.
        n: Number of axes.
        width_inch: Width of the figure.
        height_inch: Height of each row.
        n_columns: Axes in a row.
        share_x: Give them the same horizontal scale too.
    """
    n_rows = -(-n // n_columns)
    with mpl.rc_context(_STYLE):
        figure = NotebookFigure(figsize=(width_inch, height_inch * n_rows), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(n_rows, n_columns, sharex=share_x, sharey=True, squeeze=False)
        axes = list(grid.flat)
        for unused in axes[n:]:
            unused.remove()
        lines = textwrap.fill(caption, int(width_inch * CHARACTERS_AN_INCH))
        figure.supxlabel(lines, fontsize=8, x=0.02, ha="left", parse_math=False).set_gid(_CAPTION)
    return axes[:n]


def label_outer(panels: Sequence[Axes]) -> None:
    """Make labels small, and leave out those of y beside another panel and those of x above one."""
    n_columns = panels[0].get_gridspec().ncols  # type: ignore[union-attr]
    for place, panel in enumerate(panels):
        panel.tick_params(labelsize=8)
        panel.xaxis.label.set_fontsize(8)
        panel.yaxis.label.set_fontsize(8)
        panel.xaxis.set_major_locator(MaxNLocator(3))
        panel.ticklabel_format(axis="x", scilimits=(-2, 4))
        panel.xaxis.get_offset_text().set_fontsize(7)
        if place % n_columns:
            panel.set_ylabel("")
        if place + n_columns < len(panels):
            panel.set_xlabel("")
        else:
            panel.tick_params(labelbottom=True)


def figure_of(axes: Axes) -> Figure:
    """The figure of axes that `new_axes` made."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # they were made with one
    return figure


def say_nothing_to_show(axes: Axes) -> None:
    """Say in the middle of empty axes that they are empty."""
    axes.text(0.5, 0.5, "no rows to show", ha="center", va="center", transform=axes.transAxes, color=INK)


def finished(axes: Axes, *, has_rows: bool) -> Figure:
    """The figure of axes, with a legend; or with a word that they are empty."""
    if has_rows:
        add_legend(axes)
    else:
        say_nothing_to_show(axes)
    return figure_of(axes)


def add_legend(axes: Axes, loc: Literal["best", "upper left"] = "best") -> None:
    """A legend: inside for a method or two; above the axes for more, where it hides nothing and has room."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) <= MAX_INSIDE:
        legend = axes.legend(loc=loc, frameon=False, labelcolor=INK)
    else:
        figure = figure_of(axes)
        n_columns = 2 if max(map(len, labels)) <= _MAX_COLUMN_CHARACTERS else 1
        n_more = max(0, -(-len(labels) // n_columns) - _ROWS_ABOVE)
        figure.set_figheight(figure.get_figheight() + _ROW_INCH * n_more)
        legend = figure.legend(
            handles, labels, loc="outside upper left", ncols=n_columns, frameon=False, fontsize=8,
            labelcolor=INK,
        )  # fmt: skip
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def set_caption(figure: Figure, caption: str) -> None:
    """Replace the caption."""
    width = int(figure.get_figwidth() * CHARACTERS_AN_INCH)
    _caption_text(figure).set_text(textwrap.fill(caption, width))


def caption_of(figure: Figure) -> str:
    """The caption, on one line."""
    return " ".join(_caption_text(figure).get_text().split())


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure with its caption, in the format of the extension: .svg, .png or .pdf.

    The same figure gives the same bytes.
    """
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "mofgap"}), _quiet():
        dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        figure.savefig(path, dpi=200, metadata=dated.get(Path(path).suffix.lower()))


def inline_svg(figure: Figure, name: str) -> str:
    """A figure as an ``<svg>`` element for a page: no caption, text as text, colours of the page's theme.

    Args:
        figure: One of this package.
        name: Prefix of its ids, unique within the page.
    """
    caption = _caption_text(figure)
    caption.set_visible(False)
    caption.set_in_layout(False)
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mofgap"}), _quiet():
        figure.savefig(buffer, format="svg", transparent=True, dpi=144, metadata={"Date": None})
    caption.set_visible(True)
    caption.set_in_layout(True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    for colour, variable in _ON_PAGE.items():
        svg = svg.replace(colour, variable)
    # The page's own font; sizes stay.
    return re.sub(r"font: ([0-9.]+px)[^;\"]*", r"font-size: \1", svg)


def _caption_text(figure: Figure) -> mpl.text.Text:
    return next(text for text in figure.texts if text.get_gid() == _CAPTION)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about glyphs that the font lacks: the page has fonts of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")
        yield
