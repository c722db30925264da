"""What a field of a schema means and allows, and what is wrong with a value, in plain words.

pydantic checks values; none of its own words reaches a user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from mofgap.nearest import hint, nearest

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_OUT_OF_RANGE = {"greater_than_equal", "greater_than", "less_than_equal", "less_than"}
_OTHERWISE = {
    "multiple_argument_values": "given twice",
    "unexpected_positional_argument": "more values than there are settings",
    "json_invalid": "holds text that is no Unicode",
}
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}

Place = Sequence[str | int]
"""Names and positions that lead to a value, such as ``("training", "window", 1)``."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one setting.

    Attributes:
        key: Dotted key of the setting, such as ``training.window[1]``; empty for the whole.
        words: What is wrong, and what would be right.
    """

    key: str
    words: str

    def below(self, section: str) -> Problem:
        """The same problem, seen from outside the section that has the setting."""
        return Problem(".".join(filter(None, (section, self.key))), self.words)

    def __str__(self) -> str:
        return f"{self.key}: {self.words}" if self.key else self.words


def settings_of(cls: Any) -> dict[str, FieldInfo]:
    """The fields of a schema that may be given, by name.

    Those that must be given come first, and those that a schema inherits last.
    """
    found = {name: f for name, f in cls.__pydantic_fields__.items() if f.init is not False}
    own = cls.__annotations__
    return dict(sorted(found.items(), key=lambda pair: (not pair[1].is_required(), pair[0] not in own)))


def problems_of(cls: Any, error: ValidationError) -> Iterator[Problem]:
    """What is wrong with values for a schema, one problem per setting."""
    for details in error.errors(include_url=False):
        place = list(details["loc"])
        if place and isinstance(place[0], int):  # of an argument without a name
            place[0] = dict(enumerate(cls.__pydantic_fields__)).get(place[0], "")
        if details["type"] == "missing" and isinstance(place[-1], int):  # of a tuple that is too short
            place.pop()
        yield from _problems(cls, place, details)


def _problems(cls: Any, place: Place, details: ErrorDetails) -> Iterator[Problem]:
    kind, value, key = details["type"], details["input"], _dotted(place)
    found = details.get("ctx", {}).get("error") if kind == "value_error" else None
    if found is not None:  # of a check of ours
        problems = getattr(found, "problems", (Problem("", str(found)),))
        yield from (problem.below(key) for problem in problems)
    elif kind in _OTHERWISE:
        yield Problem(key, _OTHERWISE[kind])
    elif kind == "unexpected_keyword_argument":
        known = settings_of(_bare(_field_at(cls, place[:-1]).annotation))
        yield Problem(key, f"unknown key; {hint(place[-1], known)}")
    else:
        yield Problem(key, _refusal(kind, value, _field_at(cls, place)))


def _refusal(kind: str, value: Any, field: FieldInfo) -> str:
    if kind == "missing" and field.is_required() and isinstance(field.description, str):
        return f"must be given: {field.description}"
    if kind in _OUT_OF_RANGE:
        return f"must be {_range(field)}, got {value!r}"
    if kind == "finite_number":
        right = _range(field) or "a number" if value != value else "finite"
        return f"must be {right}, got {value!r}"
    words = f"expected {expected(field.annotation)}, got {shown(value)}"
    if value is None and any(getattr(each, "allow_inf_nan", False) for each in field.metadata):
        return f"{words}; inf leaves an end open"
    near = nearest(value, choices(field.annotation))
    return f"{words}; did you mean {near!r}?" if near else words


def _field_at(cls: Any, place: Place) -> FieldInfo:
    """The field at a place, or what a list or mapping holds there."""
    field = FieldInfo.from_annotation(cls)
    for name in place:
        kind = _bare(field.annotation)
        inner = get_args(kind)
        if is_dataclass(kind):
            field = settings_of(kind)[str(name)]
        elif get_origin(kind) is tuple and inner[-1] is not ...:
            field = FieldInfo.from_annotation(inner[int(name)])
        else:
            field = FieldInfo.from_annotation(inner[0] if get_origin(kind) is tuple else inner[1])
    return field


def _dotted(place: Place) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).removeprefix(".")


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _bare(kind: Any) -> Any:
    """A type without ``| None``."""
    return next(k for k in get_args(kind) if k is not NoneType) if _is_union(kind) else kind


def choices(kind: Any) -> list[Any]:
    """The values that a type allows, where they can be counted."""
    kind = _bare(kind)
    return list(get_args(kind)) if get_origin(kind) is Literal else []


def expected(kind: Any) -> str:
    """A type in words."""
    if _is_union(kind):
        either = ", or " if any(get_origin(k) is tuple for k in get_args(kind)) else " or "
        return either.join("nothing (null)" if k is NoneType else expected(k) for k in get_args(kind))
    if allowed := choices(kind):
        return f"one of {', '.join(map(str, allowed))}"
    if get_origin(kind) is tuple:
        inner = [FieldInfo.from_annotation(k).annotation for k in get_args(kind) if k is not ...]
        if ... in get_args(kind):
            return f"a list, each {expected(inner[0])}"
        if set(inner) == {float}:
            return f"a list of {len(inner)} numbers"
        return f"a list of {len(inner)}: {', '.join(map(expected, inner))}"
    return "keys with values" if get_origin(kind) is dict or is_dataclass(kind) else _TYPES[kind]


def shown(value: Any) -> str:
    """A value in words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    words = {int: "the number ", float: "the number ", str: "the text "}
    return f"{words.get(type(value), '')}{value!r}"


def meaning(field: FieldInfo) -> str:
    """What a field means, with its unit."""
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, Mapping) else None
    return " ".join([*filter(None, [field.description]), *([f"Unit: {unit}."] if unit else [])])


def limits(field: FieldInfo) -> str:
    """The choices and range of a field, or of what its list or mapping holds; empty without any."""
    kind = _bare(field.annotation)
    if get_origin(kind) in (tuple, dict):
        field = _field_at(kind, [0 if get_origin(kind) is tuple else ""])
    return "; ".join(filter(None, (", ".join(map(str, choices(field.annotation))), _range(field))))


def bounds(field: FieldInfo) -> dict[str, float]:
    """The ends of a range that are not open, by pydantic's names: ge, gt, le, lt."""
    ends = ((name, getattr(m, name, None)) for name in _BOUNDS for m in field.metadata)
    return {name: end for name, end in ends if end is not None}


def default_of(field: FieldInfo, otherwise: Any = None) -> Any:
    """The default of a field; something else where it must be given."""
    return otherwise if field.is_required() else field.get_default(call_default_factory=True)


def _range(field: FieldInfo) -> str:
    return " and ".join(f"{_BOUNDS[name]} {end}" for name, end in bounds(field).items())
