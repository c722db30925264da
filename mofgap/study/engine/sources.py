"""The code version of a stage: a digest of the modules of mofgap that it can reach."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE, ASSETS = "mofgap", "assets"
_ROOT = Path(__file__).parents[2]


def code_digest(modules: Iterable[str]) -> str:
    """sha256 of the sources of some modules and of all of mofgap that they import, directly or not.

    Imports inside functions count, and so do the entries ``(module, class)`` of a registry. A module that is
    not reached does not, so that a change of the report makes no training stale. The files in ``assets``
    beside a module count as it does.

    Args:
        modules: Full names, such as ``mofgap.study.methods.training``.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(name)
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name}\n".encode() + _file(name).read_bytes())
    for folder in sorted({_file(name).parent / ASSETS for name in found}):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(_ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _imported(name: str) -> tuple[str, ...]:
    tree = ast.parse(_file(name).read_bytes())
    return tuple(dict.fromkeys(m for node in ast.walk(tree) for m in _modules(node)))


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
    path = _path(name)
    if path is None:
        raise ModuleNotFoundError(f"no module {name} in {_ROOT}")
    return path


def _path(name: str) -> Path | None:
    place = _ROOT.joinpath(*name.split(".")[1:])
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
