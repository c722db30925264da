"""The version of mofgap that is installed, and today's date."""

from __future__ import annotations

import os
from datetime import UTC, datetime


def installed_version(otherwise: str = "") -> str:
    """The version, or something else where mofgap is run without being installed."""
    from importlib.metadata import PackageNotFoundError, version  # --help does without

    try:
        return version("mofgap")
    except PackageNotFoundError:
        return otherwise


def today() -> str:
    """Today, such as ``2026-11-29`` (UTC); that of SOURCE_DATE_EPOCH where it is set.

    https://reproducible-builds.org/specs/source-date-epoch/
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    when = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return when.date().isoformat()
