"""Schemas of settings: each setting is declared once, with its default, range, unit and meaning.

A schema is a frozen dataclass, made by `schema` from pydantic's fields::

    @schema
    class Training:
        \"\"\"How the adapters are trained.\"\"\"

        epochs: int = Field(20, description="Passes over the training structures.", ge=1)
        rate: float = Field(1e-3, description="Peak learning rate.", gt=0.0, le=1.0)
        device: Literal["auto", "cpu"] = Field("auto", description="Where to train.")

`load` reads and checks a YAML file, `dump` writes one with the documentation as comments. Options of a
command come from the same fields by `mofgap.cli.schema`, and the arguments of `mofgap.screen` by
`mofgap.python`. Fields may be bool, int, float, str, Path, Literal, another schema, ``X | None``,
``tuple[X, ...]`` or ``dict[str, X]``. A unit stands in ``json_schema_extra={"unit": "eV"}``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import pydantic

from mofgap.nearest import nearest
from mofgap.plain_words import Problem, limits, meaning, problems_of, settings_of, shown
from mofgap.shipped import with_shipped

_T = TypeVar("_T")
_COMMENT_WIDTH = 100
_BARE = re.compile(r"[A-Za-z_/.][\w/.-]*", re.ASCII).fullmatch
_UNPRINTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")
# Text is no number, true is no number, and an unknown name is no setting. What checks a schema is built when
# it is used first: --help does not need it.
_STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class ConfigurationError(ValueError):
    """Settings that cannot be used.

    Args:
        problems: What is wrong, in words or with the key of each setting.
        key: Dotted key of the setting that words are about; by default they are about the whole.

    Attributes:
        problems: The same, each with the dotted key of its setting; the key is empty for the whole.
    """

    def __init__(self, *problems: Problem | str, key: str = "") -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(key, p) for p in problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass_transform(frozen_default=True)
def schema(cls: type[_T]) -> type[_T]:
    """Make a class a frozen dataclass that checks the type and range of every field.

    A check of several fields together stands in ``__post_init__`` and raises a `ConfigurationError`. Whoever
    makes an instance gets a `ConfigurationError` too, with every problem in plain words.
    """
    made: Any = pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)(cls)
    check = made.__init__

    @wraps(check)
    def init(self: Any, *values: Any, **named: Any) -> None:
        _build(made)
        try:
            check(self, *map(_as_field, values), **{name: _as_field(v) for name, v in named.items()})
        except pydantic.ValidationError as error:
            raise ConfigurationError(*problems_of(made, error)) from None

    made.__init__ = init
    return made  # type: ignore[no-any-return]


def _build(cls: Any) -> None:
    """Build what checks a schema, unless it is there; pydantic then puts its own ``__init__`` in place."""
    if not cls.__pydantic_complete__:
        init = cls.__init__
        pydantic.dataclasses.rebuild_dataclass(cls)
        cls.__init__ = init


def _as_field(value: Any) -> Any:
    """What numpy gives as Python's own numbers, and a list as the tuple that a field holds."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(value) if isinstance(value, list) else value


def load(cls: type[_T], path: Path, overrides: Iterable[str] = ()) -> _T:
    """Read settings from a YAML file.

    Args:
        cls: Their schema.
        path: The file.
        overrides: ``a.b=value`` each, the value in YAML; later ones win.

    Raises:
        ConfigurationError: If the file ``path`` cannot be read, a key is unknown, missing or repeated, or a
            value has the wrong type or range.
    """
    with _in_file(path):
        return from_dict(cls, _plain_values(path, overrides))


SLIP = 0.86
"""A key so much like the name of a section is a slip of the pen: trainng is, pretraining is not."""


def read_sections(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Some sections of a YAML file as plain values; those that it has.

    Raises:
        ConfigurationError: If the file ``path`` cannot be read, holds no keys with values, or has a section
            with nearly the name of one of these.
    """
    with _in_file(path):
        values = _plain_values(path)
        for name in values.keys() - set(names):
            if (meant := nearest(name.lower(), names, SLIP)) and meant not in values:
                raise ConfigurationError(f"unknown section; did you mean {meant}?", key=name)
    return {name: values[name] for name in names if name in values}


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """Name the file in the problems of the body."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(*(f"{path}: {problem}" for problem in error.problems)) from error


@contextmanager
def below(section: str) -> Iterator[None]:
    """Name problems of the body as those of a section."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(*(problem.below(section) for problem in error.problems)) from error


def _plain_values(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "no text in UTF-8"
        cure = "name a YAML file in it" if path.is_dir() else "check the path, and name a YAML file"
        raise ConfigurationError(f"{what}; {cure}") from error
    values = overridden(_parsed(text), overrides)
    try:
        return with_shipped(values)  # type: ignore[no-any-return]
    except FileNotFoundError as error:
        raise ConfigurationError(str(error)) from error


def overridden(values: Any, overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of plain values with overrides ``a.b=value``, where each value is read as YAML.

    Raises:
        ConfigurationError: If ``values`` are not a mapping, or an override lacks ``=``, has no YAML value, or
            names a parent that is not a section.
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"expected keys with values, got {shown(values)}")
    result: dict[str, Any] = json.loads(_json(values))
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
                raise ConfigurationError(
                    f"{key}: {'.'.join(parents[: depth + 1])} is no section; it holds no settings"
                )
        place[last] = _parsed(text)
    return result


def from_dict(cls: type[_T], values: Mapping[str, Any]) -> _T:
    """Settings from plain values, every one checked.

    Args:
        cls: Their schema.
        values: Plain values, as YAML or JSON hold them.

    Raises:
        ConfigurationError: If a key is unknown or missing, or a value has the wrong type or is out of its
            range.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"expected keys with values, got {shown(values)}")
    _build(cls)
    try:
        # As JSON a list is a tuple, and text a path; Python's own values would have to be these.
        return pydantic.TypeAdapter(cls).validate_json(_json(values))
    except pydantic.ValidationError as error:
        raise ConfigurationError(*problems_of(cls, error)) from None


def part(cls: type[_T], settings: Mapping[str, Any], **others: Any) -> _T:
    """The settings of one schema, chosen from more settings.

    Args:
        cls: The schema.
        settings: By name; those that the schema does not have are left out.
        others: Further settings, which go before the same of `settings`.
    """
    return cls(**{name: settings[name] for name in settings_of(cls) if name in settings} | others)


def to_dict(config: Any) -> dict[str, Any]:
    """Settings as plain values that JSON and YAML can hold; of any dataclass."""
    return {f.name: plain(getattr(config, f.name)) for f in fields(config) if f.init}


def plain(value: Any) -> Any:
    """A value as JSON and YAML hold it."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def digest(*configs: Any) -> str:
    """sha256 of settings or plain values: the same on every machine, whatever the order of keys."""
    text = json.dumps([plain(c) for c in configs], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _json(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(values), default=str)
    except (TypeError, ValueError) as error:  # a list for a key, or a value within itself
        raise ConfigurationError(f"not to be read: {error}; give each setting a name and a value") from error


def _parsed(text: str) -> Any:
    """YAML 1.2, so that 1e-3 is a number and ``no`` is text."""
    from ruamel.yaml import YAML  # --help reads none
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigurationError(
            f"{where}{(error.problem or 'no YAML').splitlines()[0]}; correct that line"
        ) from error
    except (YAMLError, ValueError, KeyError, RecursionError) as error:  # a wrong value, or one too deep
        raise ConfigurationError(
            f"no YAML: {str(error).splitlines()[0]}; mofgap config prints an example"
        ) from error


def dump(config: Any) -> str:
    """Settings as YAML, every key under its documentation; `load` reads it back to equal ones."""
    return "\n".join([*_comment(_summary(type(config)), ""), "", *_lines(config, "")]) + "\n"


def _lines(config: Any, indent: str) -> list[str]:
    """The YAML of settings, a line each."""
    lines = []
    for name, field in settings_of(type(config)).items():
        value = getattr(config, name)
        words = meaning(field) or (_summary(type(value)) if is_dataclass(value) else "")
        lines += _comment(f"{words} ({limits(field)})".removesuffix(" ()"), indent)
        lines += _entry(name, value, indent)
    return lines


def _entry(key: str, value: Any, indent: str) -> list[str]:
    name = _flow(key)
    if is_dataclass(value):
        return [f"{indent}{name}:", *_lines(value, f"{indent}  ")]
    if isinstance(value, Mapping) and any(is_dataclass(v) for v in value.values()):
        inner = [line for k, v in value.items() for line in _entry(str(k), v, f"{indent}  ")]
        return [f"{indent}{name}:", *inner]
    return [f"{indent}{name}: {_flow(plain(value))}"]


def _flow(value: Any) -> str:
    """A plain value on one line of YAML."""
    if isinstance(value, str):
        bare = _BARE(value) and isinstance(_parsed(value), str)
        quoted = json.dumps(value, ensure_ascii=False)
        return value if bare else _UNPRINTED.sub(lambda c: f"\\u{ord(c[0]):04x}", quoted)
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
    """The first paragraph of a schema's docstring."""
    return " ".join((cls.__doc__ or "").split("\n\n")[0].split())
