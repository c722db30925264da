"""Do the tests notice faults? Small ones are put into the code, one at a time, and the tests of its room run.

A fault is a flipped comparison, another operator, another number, a negated condition, a dropped call or a
return of nothing. Docstrings, annotations, decorators, messages of exceptions and logs are left alone. The
faults are a sample in a fixed order: ``--skip 40 --n 60`` goes on where ``--n 40`` ended.

The tests run in a copy of the working tree. Each fault has a process of its own, forked from one that has
imported the libraries already.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("balora", "gap", "training", "uncertainty")
LIBRARIES = (
    *("gemmi", "hypothesis", "lightning", "numba", "pandas", "pyarrow.parquet", "pydantic", "pytest"),
    *("safetensors.torch", "scipy.stats", "sklearn.linear_model", "sklearn.neighbors", "torch", "typer"),
)
FOLDERS = ("benchmarks", "configs", "data", "models", "mofgap", "tests", "pyproject.toml")

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
LEFT_ALONE = ("logger", "logging", "warnings")
"""Calls of these are messages."""


@dataclass(frozen=True)
class Mutant:
    """A module with one fault.

    Attributes:
        path: The module, relative to the root.
        line: Where the fault is.
        old: Code before.
        new: Code after.
        start: Bytes of the module before it.
        end: Bytes of the module up to its end.
    """

    path: str
    line: int
    old: str
    new: str
    start: int
    end: int

    def put_into(self, text: bytes) -> bytes:
        """The text of the module with the fault."""
        return text[: self.start] + self.new.encode() + text[self.end :]


def mutants(path: Path, root: Path) -> Iterator[Mutant]:
    """All faults of a module."""
    text = path.read_bytes()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node, new in faults(ast.parse(text)):
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        name = str(path.relative_to(root))
        yield Mutant(name, node.lineno, text[start:end].decode(), new, start, end)


def faults(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """The places under a node that can be changed, with the code to put there."""
    if isinstance(node, (ast.expr, ast.stmt)):
        for new in changed(node):
            yield node, new
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not is_message(child):
                yield from faults(child)


def is_message(node: ast.AST) -> bool:
    """Whether a node is no code that decides anything: text, an exception, a log, a check of lengths."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        owner = node.value.func
        return isinstance(owner, ast.Attribute) and ast.unparse(owner.value) in LEFT_ALONE
    if isinstance(node, ast.keyword):
        return node.arg == "strict"
    return isinstance(node, (ast.Raise, ast.JoinedStr))


def changed(node: ast.expr | ast.stmt) -> Iterator[str]:
    """What may stand instead of an expression or a statement."""
    match node:
        case ast.Compare(left, [operator], [right]):
            yield ast.unparse(ast.Compare(left, [COMPARISONS[type(operator)]()], [right]))
        case ast.BinOp(left, operator, right) if type(operator) in OPERATORS:
            yield f"({ast.unparse(ast.BinOp(left, OPERATORS[type(operator)](), right))})"
        case ast.BoolOp(operator, values):
            other = ast.Or() if isinstance(operator, ast.And) else ast.And()
            yield f"({ast.unparse(ast.BoolOp(other, values))})"
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield f"({ast.unparse(operand)})"
        case ast.Constant(bool() as value):
            yield str(not value)
        case ast.Constant(int() as value):
            yield str(value + 1)
        case ast.Constant(float() as value):
            yield str(2 * value or 1.0)
        case ast.IfExp(test, body, orelse):
            yield f"({ast.unparse(ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse))})"
        case ast.Return(value) if value is not None and ast.unparse(value) != "None":
            yield "return None"
        case ast.Expr(ast.Call()):
            yield "pass"


def test_files(path: str, copy: Path) -> list[str]:
    """Test files of a module's room, those that are named after the module first."""
    module = Path(path)
    room = Path("tests") / module.parent.name
    words = module.stem.removesuffix("s")
    files = (copy / room).glob("test_*.py")
    return [str(f.relative_to(copy)) for f in sorted(files, key=lambda f: (words not in f.stem, f.name))]


def outcome(mutant: Mutant, copy: Path, timeout_s: int) -> str:
    """Killed, survived or timeout."""
    target = copy / mutant.path
    original = target.read_bytes()
    target.write_bytes(mutant.put_into(original))
    try:
        child = os.fork()
        if not child:
            run_tests(test_files(mutant.path, copy), copy, timeout_s)
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what its tests had started
    finally:
        target.write_bytes(original)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return "timeout"
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) > 2:
        raise RuntimeError(f"pytest ended with {os.WEXITSTATUS(status)}: it found no tests for {mutant.path}")
    return "killed" if status else "survived"


def run_tests(files: list[str], copy: Path, timeout_s: int) -> None:
    """Run tests in this process and end it; the alarm ends it earlier."""
    os.setsid()
    os.chdir(copy)
    signal.alarm(timeout_s)
    options = ["-x", "-q", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "--tb=no"]
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        code = importlib.import_module("pytest").main([*options, *files])
    os._exit(int(code))


def copy_tree(copy: Path) -> None:
    """What the tests need; models and data are the same files."""
    for name in FOLDERS:
        if name in ("data", "models"):
            (copy / name).symlink_to(ROOT / name)
        elif (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)


def report(rows: list[tuple[Mutant, str, float]], total: int, seconds: float) -> None:
    """Print what happened in each module, and where a fault went unnoticed."""
    modules: dict[str, Counter[str]] = {}
    for mutant, what, _ in rows:
        modules.setdefault(mutant.path, Counter())[what] += 1
    print("| module | faults | killed | timeout | survived |\n|---|---|---|---|---|")
    for name, n in sorted(modules.items()):
        print(f"| {name} | {n.total()} | {n['killed']} | {n['timeout']} | {n['survived']} |")
    noticed = sum(what != "survived" for _, what, _ in rows)
    share = noticed / max(1, len(rows))
    print(f"\n{noticed} of {len(rows)} noticed ({share:.1%}), of {total} that there are; {seconds:.0f} s")


def main() -> None:
    """Print one line per fault, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rooms", nargs="+", default=ROOMS, help="folders of mofgap/")
    parser.add_argument("--n", type=int, default=40, help="faults to try")
    parser.add_argument("--skip", type=int, default=0, help="faults of the sample that were tried before")
    parser.add_argument("--only", nargs="+", default=[], help="modules, as mofgap/gap/head.py or with :LINE")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--timeout", type=int, default=300, help="seconds the tests of one fault may take")
    options = parser.parse_args()
    rows, begin = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        copy_tree(copy)
        paths = [path for room in options.rooms for path in sorted((copy / "mofgap" / room).glob("*.py"))]
        population = [mutant for path in paths for mutant in mutants(path, copy)]
        random.Random(options.seed).shuffle(population)
        asked = {*options.only}
        chosen = [m for m in population if not asked or {m.path, f"{m.path}:{m.line}"} & asked]
        chosen = chosen[options.skip : options.skip + options.n]
        os.environ |= {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        sys.path[:] = [folder, *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
        sys.dont_write_bytecode = True
        for name in LIBRARIES:
            importlib.import_module(name)
        for mutant in chosen:
            start = time.monotonic()
            what = outcome(mutant, copy, options.timeout)
            rows.append((mutant, what, time.monotonic() - start))
            change = f"{mutant.old.splitlines()[0]}  ->  {mutant.new}"
            print(f"{what:8} {rows[-1][2]:5.0f} s  {mutant.path}:{mutant.line}  {change}", flush=True)
    report(rows, len(population), time.monotonic() - begin)


if __name__ == "__main__":
    main()
