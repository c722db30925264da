"""Write the tables of commands and settings from the program itself, and list the files of tables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from typer.main import get_command

from mofgap.__main__ import app
from mofgap.plain_words import default_of, limits, meaning, settings_of

_UNBUILT = re.compile(r"^> In the repository .*\n", flags=re.MULTILINE)
"""Tells readers of the source what only the built page has."""

_MARK = re.compile(r"^<!-- (commands|settings|files)(?: (\S+))? -->$", flags=re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- commands -->``, ``<!-- settings MODULE.SCHEMA -->`` and ``<!-- files FOLDER -->``.

    Lines of `_UNBUILT` are left out.
    """
    made: dict[str, Callable[[str], str]] = {
        "commands": lambda _: commands(),
        "settings": settings,
        "files": files,
    }
    return _MARK.sub(lambda mark: made[mark[1]](mark[2]), _UNBUILT.sub("", markdown))


def files(folder: str) -> str:
    """Links to the CSV files below a folder of the documentation, from a page in that folder."""
    top = Path(__file__).parents[1] / folder
    found = [path.relative_to(top).as_posix() for path in sorted(top.rglob("*.csv"))]
    return "\n".join(f"- [{name}]({name})" for name in found)


def commands() -> str:
    """Each command with what it does, and a table of its arguments and options."""
    return "\n\n".join(_sections(get_command(app), "mofgap"))


def _sections(command: Any, name: str) -> Iterator[str]:
    for below, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _sections(child, f"{name} {below}")
    if not getattr(command, "commands", {}):
        rows = [
            (_names(parameter), _cell(_meaning(parameter)))
            for parameter in command.params
            if parameter.name != "help"
        ]
        yield f"## {name}\n\n{_plain(command.help or '')}\n\n{_table(('', 'meaning'), rows)}"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name.upper()).replace('|', chr(92) + '|')}`"
    return "<br>".join(f"`{name}`" for name in parameter.opts + parameter.secondary_opts)


def _meaning(parameter: Any) -> str:
    default = parameter.default
    told = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    return " ".join(filter(None, (parameter.help, f"Default `{default}`." if told else "")))


def settings(name: str) -> str:
    """The fields of a schema: names, defaults, what they mean and allow."""
    module, _, schema = name.rpartition(".")
    rows = []
    for key, field in settings_of(getattr(import_module(module), schema)).items():
        allowed = limits(field)
        value = "required" if field.is_required() else default_of(field)
        default = "" if value is None else f"`{value}`"
        rows.append((f"`{key}`", default, _cell(meaning(field) + (f" ({allowed})" if allowed else ""))))
    return _table(("setting", "default", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Help as Markdown: double backticks are single ones here, and blank lines part paragraphs."""
    return text.replace("``", "`")


def _cell(text: str) -> str:
    return _plain(" ".join(text.split())).replace("|", "\\|").replace("<", "&lt;")
