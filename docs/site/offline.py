"""Fail the build where a page would load anything from another site; name the search for screen readers."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError

_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\ssrc=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|<link\b(?=[^>]*?rel=["']?(?:stylesheet|icon|preload|preconnect))[^>]*?href=["']?((?:https?:)?//[^"'\s>]+)"""
)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Look at the HTML of a page.

    Raises:
        PluginError: If the page loads a script, a picture, a font or a style from another site.
    """
    if found := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads {found[1] or found[2]}: keep a copy in docs/")
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')
