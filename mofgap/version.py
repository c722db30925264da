"""The version of mofgap that is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(otherwise: str = "") -> str:
    """The version, or something else where mofgap is run without being installed."""
    try:
        return version("mofgap")
    except PackageNotFoundError:
        return otherwise
