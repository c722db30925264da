"""Options of a command from the fields of a schema: name, default, range, choices and help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from typer.models import ArgumentInfo

from mofgap.plain_words import bounds, default_of, meaning, settings_of

_Command = TypeVar("_Command", bound=Callable[..., None])
_ENDS = {"ge": "min", "le": "max"}


def option_of(schema: type, name: str, metavar: str | None = None) -> Any:
    """The option that a setting of a schema is; its default stands in the signature of the command.

    Args:
        schema: Made by `mofgap.configuration.schema`.
        name: Of the setting.
        metavar: What stands for the value in the help; by default its type and range.
    """
    field = settings_of(schema)[name]
    ends: dict[str, Any] = {_ENDS[end]: value for end, value in bounds(field).items() if end in _ENDS}
    return typer.Option(metavar=metavar, help=meaning(field), **ends)


def with_settings(schema: type, **metavars: str) -> Callable[[_Command], _Command]:
    """Give a command an option for each setting of a schema, after its arguments and before its own options.

    Args:
        schema: Made by `mofgap.configuration.schema`.
        metavars: What stands for the value of some settings in the help, by their names.

    Returns:
        What changes the signature of a command, which takes the settings as ``**settings``.
    """

    def decorate(command: _Command) -> _Command:
        *own, _ = inspect.signature(command, eval_str=True).parameters.values()
        types = get_type_hints(schema)
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default_of(field, inspect.Parameter.empty),
                annotation=Annotated[types[name], option_of(schema, name, metavars.get(name))],
            )
            for name, field in settings_of(schema).items()
        ]
        arguments = [p for p in own if _is_argument(p.annotation)]
        options = [p for p in own if p not in arguments]
        all_ = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*arguments, *added, *options)]
        function: Any = command
        function.__signature__ = inspect.Signature(all_, return_annotation=None)
        function.__annotations__ = {p.name: p.annotation for p in all_}
        return command

    return decorate


def _is_argument(annotation: Any) -> bool:
    return any(isinstance(extra, ArgumentInfo) for extra in getattr(annotation, "__metadata__", ()))
