"""The code part of a stage's key: a digest of what the modules of mofgap that it can reach do.

Only what decides a result counts. Comments, docstrings, formatting, the texts of raised errors, the help
texts of settings and the words of cards do not, so that a better word costs no training.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGE = "mofgap"
ASSETS = ("assets/**/*", "*.jinja")
"""Files next to a module that decide its result as its code does."""

TOLD = frozenset({"mofgap.training.card"})
"""Modules that write words about a result alone."""

_ROOT = Path(__file__).parents[2]

_NAMING = (ast.Import, ast.ImportFrom, ast.Tuple)

_HELP_KEYWORDS = ("doc", "help", "description")


def code_digest(modules: Iterable[str]) -> str:
    """sha256 of the code of some modules, and of all modules of mofgap that they import, directly or not.

    Imports inside functions count, and so do the entries ``(module, class)`` of a registry. A module that is
    not reached does not count, so that a change of the report makes no training stale. The `ASSETS` beside a
    module count by their bytes.

    Args:
        modules: Full names, such as ``mofgap.study.methods.training``.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found | TOLD:
            found.add(name)
            waiting += imported(name)
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name} {_read(name)[0]}\n".encode())
    folders = {_file(name).parent for name in found}
    beside = {path for folder in folders for pattern in ASSETS for path in folder.glob(pattern)}
    for path in sorted(path for path in beside if path.is_file()):
        digest.update(f"{path.relative_to(_ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _read(name: str) -> tuple[str, tuple[str, ...]]:
    """sha256 of a module's syntax tree without docstrings and messages, and its imports of mofgap."""
    imported: dict[str, None] = {}
    behaviour = repr(_plain(ast.parse(_file(name).read_bytes()), imported))
    return hashlib.sha256(behaviour.encode()).hexdigest(), tuple(imported)


def _plain(node: Any, imported: dict[str, None]) -> Any:
    """A syntax tree as nested lists, without positions, empty fields and words.

    `ast.dump` would differ between versions of Python, which add fields to nodes that stay empty here.

    Args:
        node: A node, a list of nodes, or the value of a field.
        imported: Gets the modules of mofgap that a node names.
    """
    if isinstance(node, list):
        return [_plain(each, imported) for each in node]
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if not isinstance(node, ast.AST):
        return node
    if isinstance(node, _NAMING):
        imported.update(dict.fromkeys(_modules(node)))
    values = ((name, _without_words(node, name)) for name in node._fields)
    found: list[Any] = [type(node).__name__]
    return found + [(name, _plain(each, imported)) for name, each in values if each not in (None, [])]


def _without_words(node: ast.AST, field: str) -> Any:
    """A field of a node without texts that stand alone, texts of a raised error, and help texts of a call."""
    value = getattr(node, field, None)
    if isinstance(node, ast.Call) and field == "keywords":
        return [keyword for keyword in node.keywords if keyword.arg not in _HELP_KEYWORDS]
    if isinstance(node, ast.Raise) and isinstance(value, ast.Call) and field == "exc":
        return ast.Call(value.func, [], [])
    if isinstance(value, list):
        return [each for each in value if not _is_text(each)]
    return value


def _is_text(node: Any) -> bool:
    """Whether a statement is a docstring or another text that stands alone."""
    if not isinstance(node, ast.Expr):
        return False
    return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def imported(name: str) -> tuple[str, ...]:
    """Modules of mofgap that a module of mofgap imports, inside functions too."""
    return _read(name)[1]


def _modules(node: ast.AST) -> Iterator[str]:
    """Modules of mofgap that an import statement names, or the entry ``(module, class)`` of a registry."""
    if isinstance(node, ast.Tuple) and len(node.elts) == 2:
        module, cls = (getattr(element, "value", None) for element in node.elts)
        names = [module] if isinstance(module, str) and "." in module and str(cls).isidentifier() else []
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return
    yield from (n for n in names if n.partition(".")[0] == PACKAGE and _path(n) is not None)


def _file(name: str) -> Path:
    """The file of a module of mofgap, or of another package that a registry names."""
    path = _path(name)
    if path is None and name.partition(".")[0] != PACKAGE:
        spec = find_spec(name)
        path = Path(spec.origin) if spec and spec.origin else None
    if path is None:
        raise ModuleNotFoundError(f"no module {name} in {_ROOT}")
    return path


def _path(name: str) -> Path | None:
    place = _ROOT.joinpath(*name.split(".")[1:])
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
