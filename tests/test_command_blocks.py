"""Each block of commands or Python in README and docs runs on shipped examples, or says above it why not."""

from __future__ import annotations

import re
import shlex
import shutil
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run: .+? -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHOWN = ("MOF-5_MIBQAR16", "MIL-53-Cr_MINVUA01", "MIL-53-Al-open_SABVUN")
N_LABELLED = 25  # the fewest that conformal intervals are fitted to


def runnable(page: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks that a page asks its reader to run, without those that say why not."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language, code) for why, language, code in found if not why and language in ("", "python")]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of."""
    examples = ROOT / "data" / "examples"
    for folder in ("structures", "data/examples"):
        (tmp_path / folder).mkdir(parents=True)
        for name in SHOWN:
            shutil.copy(examples / f"{name}.cif", tmp_path / folder)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "data" / "quickstart").symlink_to(ROOT / "data" / "quickstart")
    (tmp_path / "list.txt").write_text(f"structures/{SHOWN[0]}.cif\n")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(examples / f"{SHOWN[1]}.cif", f"{SHOWN[1]}.cif")
    shutil.copy(ROOT / "data" / "quickstart" / "labels.csv", tmp_path)
    with zipfile.ZipFile(ROOT / "data" / "quickstart" / "structures.zip") as archive:
        archive.extractall(tmp_path / "cifs", archive.namelist()[:N_LABELLED])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_line(line: str) -> None:
    """Run a line as a shell would: without its comment, with names for patterns."""
    words = [
        found
        for word in shlex.split(line, comments=True)
        for found in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    if not words:
        return
    assert words[0] == "mofgap", f"{line}: only mofgap is run here; say above the block why it is not"
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if runnable(page)], ids=lambda page: str(page.relative_to(ROOT))
)
@pytest.mark.usefixtures("workplace")
def test_blocks_run(page: Path) -> None:
    scope: dict[str, object] = {}
    for language, code in runnable(page):
        if language == "python":
            exec(code, scope)
        else:
            for line in code.replace("\\\n", " ").splitlines():
                run_line(line)
