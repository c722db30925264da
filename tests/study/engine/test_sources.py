from __future__ import annotations

from pathlib import Path

import pytest

from mofgap.study.engine import sources
from mofgap.study.engine.plan import plan


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    sources._imported.cache_clear()
    return root


@pytest.mark.parametrize(
    ("name", "matters"), [("a", 1), ("b", 1), ("room/c", 1), ("room/__init__", 1), ("d", 0)]
)
def test_only_what_is_reached_matters(package: Path, name: str, matters: int) -> None:
    before = sources.code_digest(["mofgap.a"])
    assert sources.code_digest(["mofgap.a"]) == before
    (package / f"{name}.py").write_text((package / f"{name}.py").read_text() + "# changed\n")
    assert (sources.code_digest(["mofgap.a"]) != before) == bool(matters)


def test_what_a_registry_names_is_reached(package: Path) -> None:
    (package / "b.py").write_text('KNOWN = {"d": ("mofgap.d", "D")}\n')
    before = sources.code_digest(["mofgap.a"])
    (package / "d.py").write_text("class D: ...\n")
    assert sources.code_digest(["mofgap.a"]) != before


def test_files_beside_what_is_reached_matter(package: Path) -> None:
    digests = [sources.code_digest(["mofgap.a"])]
    for folder in ("room", "away"):  # room is reached, away is not
        page = package / folder / "assets/pages/page.html"
        page.parent.mkdir(parents=True)
        page.write_text("<html>")
        digests.append(sources.code_digest(["mofgap.a"]))
    assert digests[0] != digests[1] == digests[2]


def test_a_module_that_is_not_there(package: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"mofgap\.zzz"):
        sources.code_digest(["mofgap.zzz"])


def test_real_stages_name_real_modules(comparison: object) -> None:
    sources._imported.cache_clear()
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
    sources._imported.cache_clear()
    waiting, found = [start], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += sources._imported(name)
    assert reached in found
    assert not [
        name
        for name in found
        if name.startswith(("mofgap.report", "mofgap.cli", "mofgap.study.cli", "mofgap.study.judge"))
    ]
