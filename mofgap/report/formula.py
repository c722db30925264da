"""Chemical formulas on a page."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_COUNT = re.compile(r"(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)")


def with_subscripts(formula: str) -> Markup:
    """A formula as HTML, its counts set low; whatever else it holds is escaped."""
    parts = _COUNT.split(formula)
    return Markup("").join(
        Markup("<sub>{}</sub>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )
