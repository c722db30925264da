"""The known name that an unknown one was meant for."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 20
"""Known names shown at most where none is near."""


def nearest(name: object, known: Iterable[object], likeness: float = 0.5) -> str | None:
    """The known name most like this one; None where none is so much like it, 1 being equal."""
    import difflib  # needed for errors alone

    names = [str(k) for k in known]
    return next(iter(difflib.get_close_matches(str(name), names, n=1, cutoff=likeness)), None)


def hint(name: object, known: Iterable[object]) -> str:
    """Words that help on after an unknown name: the nearest known one, or else what is known."""
    names = [str(k) for k in known]
    if near := nearest(name, names):
        return f"did you mean {near!r}?"
    return f"known: {', '.join([*names[:SHOWN], *(['...'] if len(names) > SHOWN else [])]) or 'none'}"
