"""The pages of the server, filled in, and the files that they load from it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

from mofgap.crystals.formats import KNOWN
from mofgap.gap.novelty_warnings import NOTES
from mofgap.report.page import ASSETS as REPORT_ASSETS
from mofgap.screening.levels import DEFAULT, LEVELS
from mofgap.version import installed_version
from mofgap.web.answers import EVERYWHERE
from mofgap.web.config import ServeConfig

_ASSETS = files("mofgap.web") / "assets"
_TEMPLATES = ("base.html", "screen.html", "token.html", "docs.html")
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
LEVEL_WORDS = {
    "both": "HSE06, with PBE next to it",
    "hse06": "HSE06 alone, a hybrid functional",
    "pbe": "PBE alone, for comparison with databases",
}


def assets() -> dict[str, tuple[bytes, str]]:
    """Content and media type of each file that pages load, by name."""
    places = {
        "page.css": REPORT_ASSETS,
        **dict.fromkeys(("serve.css", "serve.js", "token.js", "icon.svg"), _ASSETS),
    }
    return {
        name: (folder.joinpath(name).read_bytes(), _TYPES[name[name.rindex(".") :]])
        for name, folder in places.items()
    }


def screen_page(limits: ServeConfig) -> str:
    """The page for screening."""
    levels = [(level, LEVEL_WORDS[level]) for level in sorted(LEVELS, key=lambda level: level != DEFAULT)]
    return _filled("screen.html", levels=levels, limits=limits, known=KNOWN, notes=" ".join(sorted(NOTES)))


def token_page(wrong: bool) -> str:
    """The page that asks for the token, and says so if a ``wrong`` one was given."""
    return _filled("token.html", wrong=wrong)


def docs_page(openapi: dict[str, Any], address: str) -> str:
    """The HTTP interface for people: its description in OpenAPI as a page, with examples at an address."""
    operations = [
        {"method": method.upper(), "path": path, "fields": _fields(operation), **operation}
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    everywhere = {str(status): answer for status, answer in EVERYWHERE.items()}
    return _filled(
        "docs.html", info=openapi["info"], operations=operations, address=address, everywhere=everywhere
    )


def _fields(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters and fields of the form of an operation."""
    found = [
        {"name": p["name"], "where": p["in"], "required": p.get("required", False)}
        | {"words": p.get("description", "")}
        for p in operation.get("parameters", [])
    ]
    content = operation.get("requestBody", {}).get("content", {})
    form = content.get("multipart/form-data", {}).get("schema", {})
    return found + [
        {"name": name, "where": "form", "required": name in form.get("required", [])}
        | {"words": schema.get("description", "")}
        for name, schema in form.get("properties", {}).items()
    ]


def _filled(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(version=installed_version(), **values)


@cache
def _environment() -> Environment:
    sources = {name: _ASSETS.joinpath(name).read_text(encoding="utf-8") for name in _TEMPLATES}
    return Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
