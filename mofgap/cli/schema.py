"""Options of a command from the fields of a schema: name, default, range, choices and help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

from mofgap.plain_words import bounds, default_of, meaning, settings_of

_Command = TypeVar("_Command", bound=Callable[..., None])
_ENDS = {"ge": "min", "le": "max"}


def option_of(schema: type, name: str, *flags: str, metavar: str | None = None) -> Any:
    """The option of a setting of a schema; its default stands in the signature of the command.

    Args:
        schema: Made by `mofgap.configuration.schema`.
        name: Name of the setting.
        flags: Names of the option; by default that of the setting.
        metavar: What stands for the value in the help; by default its type and range.
    """
    field = settings_of(schema)[name]
    ends: dict[str, Any] = {_ENDS[end]: value for end, value in bounds(field).items() if end in _ENDS}
    return typer.Option(*flags, metavar=metavar, help=meaning(field), case_sensitive=False, **ends)


def with_settings(
    *schemas: type, panels: Mapping[str, Collection[str]] | None = None, **metavars: str
) -> Callable[[_Command], _Command]:
    """Give a command an option for each setting of schemas, after its arguments and before its own options.

    A setting that the command declares itself, as an argument or under another name, is not added again.

    Args:
        schemas: Made by `mofgap.configuration.schema`, without a setting in common.
        panels: Names of the settings under each further heading of the help, below the common options.
        metavars: What stands for the value of some settings in the help, by their names.

    Returns:
        What changes the signature of a command, which takes the settings as ``**settings``.
    """
    panel_of = {name: panel for panel, listed in (panels or {}).items() for name in listed}

    def decorate(command: _Command) -> _Command:
        *own, _ = inspect.signature(command, eval_str=True).parameters.values()
        names = {p.name for p in own}
        wanted = ((cls, name) for cls in schemas for name in settings_of(cls) if name not in names)
        added = [_parameter(cls, name, metavars.get(name), panel_of.get(name)) for cls, name in wanted]
        arguments = [p for p in own if _is_argument(p.annotation)]
        options = [p for p in own if p not in arguments]
        all_ = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*arguments, *added, *options)]
        function: Any = command
        function.__signature__ = inspect.Signature(all_, return_annotation=None)
        function.__annotations__ = {p.name: p.annotation for p in all_}
        return command

    return decorate


def _parameter(schema: type, name: str, metavar: str | None, panel: str | None) -> inspect.Parameter:
    """The parameter of a command that a setting of a schema is."""
    kind, option = _types(schema)[name], option_of(schema, name, metavar=metavar)
    option.rich_help_panel = panel
    for each in (kind, *get_args(kind)):
        if get_origin(each) is tuple and get_args(each)[-1] is ...:
            kind, option.parser = str | None, _integers if get_args(each)[0] is int else _list_of
    default = default_of(settings_of(schema)[name], inspect.Parameter.empty)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


_types = cache(get_type_hints)  # reading those of a class takes a millisecond


def _list_of(text: str | tuple[Any, ...]) -> tuple[Any, ...]:
    """The items between commas; the schema checks them."""
    if isinstance(text, tuple):  # the default
        return text
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _integers(text: str | tuple[Any, ...]) -> tuple[Any, ...]:
    """The items between commas, as integers where they are some."""
    return tuple(int(item) if str(item).isdecimal() else item for item in _list_of(text))


def _is_argument(annotation: Any) -> bool:
    return any(isinstance(extra, ArgumentInfo) for extra in getattr(annotation, "__metadata__", ()))
