"""README and documentation are short, plain, and lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from mofgap.__main__ import app

ROOT = Path(__file__).parents[1]
OF_FOLDERS = [
    ROOT / name / "README.md" for name in ("benchmarks", "data", "data/quickstart", "data/examples")
]
AT_THE_TOP = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")]
CARDS = sorted((ROOT / "models").glob("*/card.md"))
PAGES = [*AT_THE_TOP, *OF_FOLDERS, *CARDS, *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS = 900
MOST_WORDS_OF_A_SENTENCE = 25


def prose(text: str) -> str:
    """A page without its code, tables, pictures and headings; links as their words."""
    text = re.sub(r"```.*?```|<!--.*?-->", ".", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "!"))]
    text = "\n".join("." if not line.strip() else line for line in lines)
    text = re.sub(r"`[^`]*`", "x", re.sub(r"\]\([^)]*\)", "]", text))
    return re.sub(r"^\s*(-|\d+\.) ", ". ", text, flags=re.MULTILINE)


def test_readme_is_short() -> None:
    text = re.sub(r"<!--.*?-->", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(text.split()) <= MOST_WORDS


def test_citation_is_of_this_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page: Path) -> None:
    sentences = re.split(r"[.:;?!](?=\s|$)", prose(page.read_text(encoding="utf-8")))
    long = [
        " ".join(s.split()) for s in sentences if len(re.findall(r"[\w'’-]+", s)) > MOST_WORDS_OF_A_SENTENCE
    ]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    lost = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_are_there(page: Path) -> None:
    program = get_command(app)
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for line in "".join(code for language, code in found if not language).splitlines():
        for words in re.findall(r"\bmofgap (?!\.)([^#&|]*)", line):
            command, rest = program, words.partition(" -- ")[0].split()
            while rest and rest[0] in getattr(command, "commands", {}):
                command = command.commands[rest.pop(0)]
            known = {
                name for parameter in command.params for name in parameter.opts + parameter.secondary_opts
            }
            assert command is not program or set(rest) <= known, words
            assert {word for word in rest if word.startswith("--") and word != "--"} <= known, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_modules_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w/])(?:benchmarks|configs|data|docs|mofgap|tests)/[\w./-]+\.(?:csv|md|py|yaml)\b", text
    )
    modules = [
        name.replace(".", "/") for name in re.findall(r"python -m ((?:benchmarks|mofgap)\.[\w.]+\w)", text)
    ]
    lost = [name for name in named if not (ROOT / name).exists()]
    lost += [
        name
        for name in modules
        if not any((ROOT / f"{name}{end}").exists() for end in (".py", "/__main__.py"))
    ]
    assert not lost
