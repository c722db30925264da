"""YAML and frozen dataclasses, both ways: what a field means and allows is said where the field is defined.

A configuration is a frozen dataclass whose fields are made by `setting` (a value) and `section` (a dataclass
of its own)::

    @dataclass(frozen=True)
    class Training:
        \"\"\"How the adapters are trained.\"\"\"

        epochs: int = setting(20, "Passes over the training structures.", least=1)
        rate: float = setting(1e-3, "Peak learning rate.", above=0.0, most=1.0)
        device: Literal["auto", "cpu"] = setting("auto", "Where to train.")

`load` reads and checks a YAML file, `dump` writes one with the documentation as comments. Fields may be
bool, int, float, str, Path, Literal, StrEnum, another dataclass, ``X | None``, ``tuple[X, ...]`` or
``dict[str, X]``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mofgap.nearest import hint, nearest

_T = TypeVar("_T")
_COMMENT_WIDTH = 100
_PLAIN = re.compile(r"[A-Za-z_/.][\w/.-]*", re.ASCII).fullmatch
_UNPRINTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")


class ConfigurationError(ValueError):
    """A configuration that cannot be used; the message names the dotted key and what would be right."""


@dataclass(frozen=True)
class Allowed:
    """The range of a number, in the unit of its field; None where it is open."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a value lies in the range; infinity and not a number never do."""
        return abs(value) <= sys.float_info.max and not (
            (self.least is not None and value < self.least)
            or (self.most is not None and value > self.most)
            or (self.above is not None and value <= self.above)
            or (self.below is not None and value >= self.below)
        )

    def __str__(self) -> str:
        ends = {"at least": self.least, "above": self.above, "at most": self.most, "below": self.below}
        return " and ".join(f"{word} {end}" for word, end in ends.items() if end is not None)


def setting(
    default: Any = MISSING,
    doc: str = "",
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """A field of a configuration; without a default (or with ``...``) it must be given.

    Args:
        default: Its value where none is given.
        doc: What it means, with its unit; becomes the comment of `dump`.
        least: Smallest value allowed. For a list or mapping, all four bound each of its values.
        most: Largest value allowed.
        above: Values must be larger.
        below: Values must be smaller.
    """
    metadata = {"doc": doc, "allowed": Allowed(least, most, above, below)}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=MISSING if default is ... else default, metadata=metadata)


def section(cls: type[_T], doc: str = "") -> _T:
    """A field that is a configuration of its own, with that one's defaults and, by default, its docstring."""
    made: Any = field(default_factory=cls, metadata={"doc": doc})
    return made  # type: ignore[no-any-return]


def load(cls: type[_T], path: Path, overrides: Iterable[str] = ()) -> _T:
    """Read a configuration from a YAML file.

    Args:
        cls: Its dataclass.
        path: The file.
        overrides: ``a.b=value`` each, the value in YAML; later ones win.

    Raises:
        ConfigurationError: The file cannot be read, a key is unknown, missing or given twice, a value has the
            wrong type or lies out of its range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise ConfigurationError(f"{path}: {reason}") from error
    try:
        return from_dict(cls, overridden(_parsed(text), overrides))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def overridden(values: Any, overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of plain values with ``a.b=value`` put in, the values read as YAML.

    Raises:
        ConfigurationError: An override without ``=``, or one that goes through something that is no section.
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"expected keys with values, got {_shown(values)}")
    try:
        result: dict[str, Any] = json.loads(json.dumps(values, default=str))
    except (TypeError, ValueError) as error:  # a list for a key, or a value within itself
        raise ConfigurationError(f"not to be read: {error}") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigurationError(f"{override!r}: expected KEY=VALUE, such as training.epochs=5")
        *parents, last = key.strip().split(".")
        place = result
        for depth, name in enumerate(parents):
            if place.get(name) is None:
                place[name] = {}
            place = place[name]
            if not isinstance(place, dict):
                raise ConfigurationError(f"{key}: {'.'.join(parents[: depth + 1])} is no section")
        place[last] = _parsed(text)
    return result


def from_dict(cls: type[_T], values: Mapping[str, Any], path: str = "") -> _T:
    """Build a configuration from plain values, checking every one.

    Args:
        cls: Its dataclass.
        values: Plain values, as YAML or JSON hold them.
        path: Dotted key of the section, for messages.

    Raises:
        ConfigurationError: As for `load`.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{path or 'the file'}: expected keys with values, got {_shown(values)}")
    known = {f.name: f for f in _fields(cls)}
    for key in values:
        if key not in known:
            raise ConfigurationError(_unknown(_join(path, key), str(key), known))
    types = get_type_hints(cls)
    arguments = {}
    for name, f in known.items():
        dotted = _join(path, name)
        if name in values:
            arguments[name] = _converted(values[name], types[name], dotted, f.metadata.get("allowed"))
        elif f.default is MISSING and f.default_factory is MISSING:
            raise ConfigurationError(f"{dotted} is missing: {_doc(cls, f) or _expected(types[name])}")
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}" if path else str(error)) from error


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain values that JSON and YAML can hold."""
    return {f.name: _plain(getattr(config, f.name)) for f in _fields(type(config))}


def digest(*configs: Any) -> str:
    """sha256 of configurations or plain values: the same on every machine, whatever the order of keys."""
    text = json.dumps([_plain(c) for c in configs], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def dump(config: Any) -> str:
    """A configuration as YAML, every key under its documentation; `load` reads it back to an equal one."""
    summary = _comment(_summary(type(config)), "")
    return "\n".join([*summary, "", *_lines(config, "")]) + "\n"


def _parsed(text: str) -> Any:
    """YAML 1.2, so that 1e-3 is a number and ``no`` is text."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigurationError(f"{where}{(error.problem or 'is no YAML').splitlines()[0]}") from error
    except (YAMLError, ValueError) as error:
        raise ConfigurationError(f"is no YAML: {str(error).splitlines()[0]}") from error


def _fields(cls: Any) -> tuple[Field[Any], ...]:
    return tuple(f for f in fields(cls) if f.init)


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _unknown(dotted: str, key: str, known: Iterable[str]) -> str:
    return f"{dotted}: unknown key; {hint(key, known)}"


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _converted(value: Any, kind: Any, path: str, allowed: Allowed | None) -> Any:
    """A plain value as its field holds it.

    Raises:
        ConfigurationError: Not of that type, or out of range.
    """
    if _is_union(kind):
        (inner,) = (k for k in get_args(kind) if k is not NoneType)
        return None if value is None else _converted(value, inner, path, allowed)
    if is_dataclass(kind):
        return from_dict(kind, value, path)  # type: ignore[arg-type]
    if get_origin(kind) is dict and isinstance(value, Mapping):
        return {str(k): _converted(v, get_args(kind)[1], _join(path, k), allowed) for k, v in value.items()}
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return _tuple(value, get_args(kind), path, kind, allowed)
    return _scalar(value, kind, path, allowed)


def _tuple(value: Any, kinds: tuple[Any, ...], path: str, kind: Any, allowed: Allowed | None) -> Any:
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise ConfigurationError(f"{path}: expected {_expected(kind)}, got {_shown(value)}")
    pairs = enumerate(zip(value, kinds, strict=True))
    return tuple(_converted(v, k, f"{path}[{i}]", allowed) for i, (v, k) in pairs)


def _scalar(value: Any, kind: Any, path: str, allowed: Allowed | None) -> Any:
    refusal = ConfigurationError(f"{path}: expected {_expected(kind)}, got {_shown(value)}")
    choices = _choices(kind)
    if choices:
        if value in choices and isinstance(value, bool) == isinstance(choices[choices.index(value)], bool):
            return kind(value) if isinstance(kind, type) else value
        near = nearest(value, choices)
        raise ConfigurationError(f"{refusal}; did you mean {near!r}?") if near else refusal
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    right = isinstance(value, int | float if kind is float else kind) if isinstance(kind, type) else False
    if not right or (isinstance(value, bool) and kind is not bool):
        raise refusal
    if kind in (int, float):
        if not (allowed or Allowed()).holds(value):
            too_large = abs(value) > sys.float_info.max
            range_ = "finite" if too_large else str(allowed or "") or "a number"
            raise ConfigurationError(f"{path}: must be {range_}, got {value!r}")
        return kind(value)
    return value


def _choices(kind: Any) -> list[Any]:
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [c.value for c in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []


def _expected(kind: Any) -> str:
    """A type in words."""
    if _is_union(kind):
        return " or ".join("nothing (null)" if k is NoneType else _expected(k) for k in get_args(kind))
    if choices := _choices(kind):
        return f"one of {', '.join(map(str, choices))}"
    inner = get_args(kind)
    if get_origin(kind) is tuple and inner[-1] is ...:
        return f"a list, each {_expected(inner[0])}"
    if get_origin(kind) is tuple:
        return f"a list of {len(inner)}: {', '.join(map(_expected, inner))}"
    if get_origin(kind) is dict or is_dataclass(kind):
        return "keys with values"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(kind, str(kind))


def _shown(value: Any) -> str:
    words = {bool: "", int: "the number ", float: "the number ", str: "the text "}
    text = {True: "true", False: "false", None: "nothing (null)"}.get(value) if not _many(value) else None
    return text if isinstance(value, bool | None) and text else f"{words.get(type(value), '')}{value!r}"


def _many(value: Any) -> bool:
    return isinstance(value, list | tuple | Mapping | set)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Enum):
        return _plain(value.value)
    return str(value) if isinstance(value, Path) else value


def _lines(config: Any, indent: str) -> list[str]:
    """The YAML of a configuration, a line each."""
    cls, lines = type(config), []
    types = get_type_hints(cls)
    for f in _fields(cls):
        value = getattr(config, f.name)
        comment = _doc(cls, f) or (_summary(type(value)) if is_dataclass(value) else "")
        bounds = [*_limits(types[f.name], f.metadata.get("allowed"))]
        lines += _comment(" ".join([comment, *(f"({b})" for b in bounds)]).strip(), indent)
        lines += _entry(f.name, value, indent)
    return lines


def _entry(key: str, value: Any, indent: str) -> list[str]:
    name = _flow(key)
    if is_dataclass(value):
        return [f"{indent}{name}:", *_lines(value, f"{indent}  ")]
    if isinstance(value, Mapping) and any(is_dataclass(v) for v in value.values()):
        inner = [line for k, v in value.items() for line in _entry(str(k), v, f"{indent}  ")]
        return [f"{indent}{name}:", *inner]
    return [f"{indent}{name}: {_flow(_plain(value))}"]


def _limits(kind: Any, allowed: Allowed | None) -> Iterable[str]:
    if _is_union(kind):
        kind = next(k for k in get_args(kind) if k is not NoneType)
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    if choices := _choices(kind):
        yield ", ".join(map(str, choices))
    if allowed is not None and str(allowed):
        yield str(allowed)


def _flow(value: Any) -> str:
    """A plain value on one line of YAML."""
    if isinstance(value, str):
        plain = _PLAIN(value) and isinstance(_parsed(value), str)
        quoted = json.dumps(value, ensure_ascii=False)
        return value if plain else _UNPRINTED.sub(lambda c: f"\\u{ord(c[0]):04x}", quoted)
    if isinstance(value, list):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(k)}: {_flow(v)}' for k, v in value.items())}}}"
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def _comment(text: str, indent: str) -> list[str]:
    width = _COMMENT_WIDTH - len(indent)
    return [f"{indent}# {line}" for line in textwrap.wrap(text, width, break_on_hyphens=False)]


def _summary(cls: type) -> str:
    """The first paragraph of a dataclass's docstring, unless dataclass wrote it."""
    text = cls.__doc__ or ""
    return "" if text.startswith(f"{cls.__name__}(") else " ".join(text.split("\n\n")[0].split())


def _doc(cls: type, f: Field[Any]) -> str:
    """What a field means: from `setting`, else from the Attributes of the docstring."""
    if doc := f.metadata.get("doc"):
        return str(doc)
    attributes = re.search(
        r"^ *Attributes:\n(.*?)(?=\n\s*\n|\Z)", cls.__doc__ or "", re.MULTILINE | re.DOTALL
    )
    if attributes is None:
        return ""
    body = textwrap.dedent(attributes[1])
    found = re.search(rf"^{f.name}: (.*(?:\n +.*)*)", body, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
