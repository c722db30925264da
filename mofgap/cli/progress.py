"""A progress bar on standard error; silent where that is no terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")


class _Rate(ProgressColumn):
    """Files a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


def tracked(
    items: Iterable[T], count: Callable[[], int] | None, console: Console, word: str = "screening"
) -> Iterator[T]:
    """The items, while a bar shows how many have passed.

    Args:
        items: What passes.
        count: Finds how many there will be, while the work goes on; None if that cannot be known.
        console: Where to; nothing is shown on one that is no terminal.
        word: What is done with them.
    """
    if not console.is_terminal:
        yield from items
        return
    columns = (
        TextColumn(word),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(word, total=None)
        if count is not None:
            threading.Thread(target=_set_total, args=(progress, task, count), daemon=True).start()
        for item in items:
            yield item
            progress.advance(task)


def _set_total(progress: Progress, task: TaskID, count: Callable[[], int]) -> None:
    with suppress(OSError, ValueError):  # which the work itself tells
        progress.update(task, total=count())
