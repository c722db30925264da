"""What every page shares: one file that needs no other, scripts named by their hash, data that stays data."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure as MatplotlibFigure

from mofgap.report.figure import caption_of, inline_svg
from mofgap.version import installed_version, today

ASSETS = files("mofgap.report") / "assets"
_LAYOUT = "layout.html"


@dataclass(frozen=True)
class Figure:
    """A figure of a page: its name, ``<svg>`` and caption."""

    name: str
    svg: Markup
    caption: str


def drawn(name: str, figure: MatplotlibFigure) -> Figure:
    """A figure for a page, under a name that is unique there."""
    return Figure(name, Markup(inline_svg(figure, name)), caption_of(figure))


def render(template: str, scripts: Sequence[str] = (), *, folder: Traversable = ASSETS, **values: Any) -> str:
    """Fill a template.

    Args:
        template: Name of a file that extends ``layout.html``.
        scripts: Names of files of ``assets``; the page runs these and nothing else.
        folder: Where the template lies.
        values: What the template names; text is escaped.
    """
    sources = {template: asset(template, folder), _LAYOUT: asset(_LAYOUT)}
    environment = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    texts = [asset(name) for name in scripts]
    return environment.get_template(template).render(
        script_hashes=Markup(" ".join(map(_hash, texts)) or "'none'"),
        style=Markup(asset("page.css")),
        scripts=[Markup(text) for text in texts],
        version=installed_version(),
        date=today(),
        **values,
    )


def as_json(content: Any) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts of plain values, None for what is missing."""
    columns = {str(name): plain(frame[name]) for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def plain(column: pd.Series) -> list[Any]:
    """The values of a column, None for what is missing or infinite."""
    missing = column.isna().to_numpy() | column.isin([np.inf, -np.inf]).to_numpy()
    return [None if lacks else value for value, lacks in zip(column.tolist(), missing, strict=True)]


def asset(name: str, folder: Traversable = ASSETS) -> str:
    """The text of a file of ``assets``."""
    return folder.joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """What a Content-Security-Policy lets run: this text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
