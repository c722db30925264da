"""How two screenings differ, in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NAMES = "names_sha256"
"""Key of the digest of the names of all inputs."""


def differences(
    then: Mapping[str, Any], now: Mapping[str, Any], words: str = "{then} then, {now} now"
) -> str:
    """The values that differ between two screenings, ``seed 0 then, 1 now``; empty if none does.

    Args:
        then: What decided the first, by name, as plain JSON values.
        now: What decides the second; its values may be any that JSON can hold.
        words: How both values are told.
    """
    now = json.loads(json.dumps(now))
    differing = [name for name in {**now, **then} if then.get(name) != now.get(name)]
    return ", ".join(_told(name, words.format(then=then.get(name), now=now.get(name))) for name in differing)


def _told(name: str, values: str) -> str:
    if name == NAMES:
        return "inputs: other names"
    return f"{name}: another model" if name.endswith("sha256") else f"{name} {values}"
