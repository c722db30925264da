from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mofgap import compiled


def test_loops_are_compiled_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(cache: bool, **options: Any) -> Callable[[Any], Any]:
        def machine_code(function: Any) -> Any:
            if cache:
                raise RuntimeError("cannot cache function: no locator available")
            return function

        return machine_code

    monkeypatch.setattr(compiled, "njit", njit)
    assert compiled.compiled(max) is max
