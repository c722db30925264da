from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from mofgap.cli.progress import tracked


def shown(terminal: bool) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100)
    assert list(tracked(iter(range(7)), lambda: 7, console)) == list(range(7))
    assert list(tracked(iter("ab"), None, console)) == ["a", "b"]
    return output.getvalue()


def test_bar_counts_on_a_terminal_and_is_silent_elsewhere() -> None:
    text = shown(terminal=True)
    assert "7/7" in text and "left" in text and "2/?" in text
    assert shown(terminal=False) == ""


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_count_that_fails_is_left_to_the_work_to_tell(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def count() -> int:
        raise error

    before = set(threading.enumerate())
    items = tracked(iter("ab"), count, Console(file=io.StringIO(), force_terminal=True))
    assert next(items) == "a"
    for thread in set(threading.enumerate()) - before:
        thread.join(1)
    assert list(items) == ["b"] and not told
