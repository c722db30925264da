from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mofgap.study.engine import sources
from mofgap.study.engine.config import RunConfig
from mofgap.study.engine.plan import plan


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """a imports b, which imports room.c inside a function; d is imported by none."""
    root = tmp_path / "mofgap"
    (root / "room").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a.py": "import numpy\nfrom mofgap.b import thing\n",
        "b.py": "def thing():\n    from mofgap.room import c\n    return c\n",
        "room/__init__.py": "",
        "room/c.py": "import mofgap.a\n",
        "d.py": "",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    monkeypatch.setattr(sources, "_ROOT", root)
    sources._read.cache_clear()
    yield root
    sources._read.cache_clear()


@pytest.mark.parametrize(
    ("name", "matters"), [("a", 1), ("b", 1), ("room/c", 1), ("room/__init__", 1), ("d", 0)]
)
def test_only_what_is_reached_matters(package: Path, name: str, matters: int) -> None:
    before = sources.code_digest(["mofgap.a"])
    assert sources.code_digest(["mofgap.a"]) == before
    (package / f"{name}.py").write_text((package / f"{name}.py").read_text() + "changed = 1\n")
    sources._read.cache_clear()
    assert (sources.code_digest(["mofgap.a"]) != before) == bool(matters)


CODE = '''"""What it is."""

from dataclasses import dataclass, field
from pydantic import Field

TOLERANCE_EV = 0.5
"""Of a gap."""


@dataclass
class Recipe:
    """How it is trained."""

    rate: float = Field(1e-3, description="Peak rate.", gt=0.0)
    splits: dict = field(default_factory=dict, metadata={"doc": "By name."})


def checked(gap_ev: float) -> float:
    """A gap that is one.

    Raises:
        ValueError: It is none.
    """
    if gap_ev < -TOLERANCE_EV:
        raise ValueError(f"{gap_ev} is no gap")
    return max(gap_ev, 0.0)  # as everywhere
'''


@pytest.mark.parametrize(
    ("before", "after", "matters"),
    [
        ('"""What it is."""', '"""What it is, in other words."""', False),
        ('"""Of a gap."""', '"""Of a gap, eV."""', False),
        ('    """How it is trained."""\n\n', "", False),
        ("        ValueError: It is none.", "        ValueError: If it is negative.", False),
        ("  # as everywhere", "  # never negative", False),
        ("\n\n\ndef checked", "\n\n# Gaps\ndef checked", False),
        ("max(gap_ev, 0.0)", "max(\n        gap_ev,\n        0.0,\n    )", False),
        ('f"{gap_ev} is no gap"', 'f"{gap_ev} eV: expected a gap"', False),
        ('"Peak rate."', '"Highest rate."', False),
        ("max(gap_ev, 0.0)", "max(gap_ev, 0.1)", True),
        ("max(gap_ev, 0.0)", "min(gap_ev, 0.0)", True),
        ("raise ValueError", "raise TypeError", True),
        ("Field(1e-3", "Field(2e-3", True),
        ("gt=0.0", "gt=0.1", True),
        ("gap_ev < -TOLERANCE_EV", "gap_ev <= -TOLERANCE_EV", True),
    ],
)
def test_words_count_for_nothing_and_what_the_code_does_counts(
    package: Path, before: str, after: str, matters: bool
) -> None:
    digests = []
    assert before in CODE
    for text in (CODE, CODE.replace(before, after)):
        (package / "d.py").write_text(text)
        sources._read.cache_clear()
        digests.append(sources.code_digest(["mofgap.d"]))
    assert (digests[0] != digests[1]) is matters


def test_a_comment_in_a_copy_of_this_package_trains_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comparison: RunConfig
) -> None:
    """Every module gets a comment, another docstring and other line breaks; then one number changes."""
    root = tmp_path / "mofgap"
    shutil.copytree(sources._ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "_ROOT", root)

    def codes() -> dict[str, str]:
        sources._read.cache_clear()
        return {stage.name: stage.request()["code"] for stage in plan(comparison, Path("/run"))}

    before = codes()
    for path in root.rglob("*.py"):
        lines = path.read_text().splitlines()
        if lines and lines[0].startswith('"""'):
            lines[0] = f'"""Anew: {lines[0][3:]}'
        path.write_text(
            "# A comment.\n" + "\n\n".join(lines[:1]) + "\n" + "\n".join(lines[1:]) + "\n# The end.\n"
        )
    assert codes() == before
    layer = root / "balora/layer.py"
    layer.write_text(f"{layer.read_text()}\nSCALE = 3\n")
    after = codes()
    assert after["train/split/balora-seed0"] != before["train/split/balora-seed0"]
    sources._read.cache_clear()


def test_what_a_registry_names_is_reached(package: Path) -> None:
    (package / "b.py").write_text('KNOWN = {"d": ("mofgap.d", "D")}\n')
    before = sources.code_digest(["mofgap.a"])
    (package / "d.py").write_text("class D:\n    x = 1\n")
    sources._read.cache_clear()
    assert sources.code_digest(["mofgap.a"]) != before


@pytest.mark.parametrize("name", ["assets/pages/page.html", "table.md.jinja"])
def test_files_beside_what_is_reached_matter(package: Path, name: str) -> None:
    digests = [sources.code_digest(["mofgap.a"])]
    for folder in ("room", "away"):  # room is reached, away is not
        page = package / folder / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<html>")
        digests.append(sources.code_digest(["mofgap.a"]))
    assert digests[0] != digests[1] == digests[2]


def test_a_module_that_is_not_there(package: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"mofgap\.zzz"):
        sources.code_digest(["mofgap.zzz"])


def test_real_stages_name_real_modules(comparison: object) -> None:
    sources._read.cache_clear()
    for stage in plan(comparison, Path("/run")):  # type: ignore[arg-type]
        assert len(sources.code_digest(stage.modules)) == 64


@pytest.mark.parametrize(
    ("start", "reached"),
    [
        ("mofgap.study.methods.training", "mofgap.balora.layer"),
        ("mofgap.screening.run", "mofgap.screening.row"),
    ],
)
def test_words_and_pictures_are_no_part_of_the_numbers(start: str, reached: str) -> None:
    sources._read.cache_clear()
    waiting, found = [start], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += sources.imported(name)
    assert reached in found
    assert not [
        name
        for name in found
        if name.startswith(("mofgap.report", "mofgap.cli", "mofgap.study.cli", "mofgap.study.judge"))
    ]


def test_the_words_of_a_card_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    read, seen = sources._read, list[str]()
    monkeypatch.setattr(sources, "_read", lambda name: (seen.append(name), read(name))[1])
    sources.code_digest(("mofgap.training.job",))
    assert "mofgap.training.recipe" in seen and "mofgap.training.card" not in seen
