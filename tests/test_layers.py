"""What imports what: imports inside functions, and those for type checkers, count too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path

import mofgap
from mofgap.study.engine.sources import imported

ROOT = Path(mofgap.__file__).parent
# From left to right: each imports only what stands before it.
LAYERS = (
    *(
        "counts",
        "nearest",
        "compiled",
        "whole_file",
        "threads",
        "shipped",
        "version",
        "choices",
        "plain_words",
        "configuration",
    ),
    *("checked_json", "checked_tensors", "neighbours", "balora", "uncertainty", "crystals"),
    *("datasets", "encoders", "gap", "training"),
    *("screening", "selection", "report", "explanation", "python", "web", "cli", "study", "__main__"),
)
PATHS = [path.relative_to(ROOT.parent) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
NAMES = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in PATHS]
IMPORTS = {name: imported(name) for name in NAMES}


def layer(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


def test_data_flows_one_way() -> None:
    wrong = [(one, other) for one, names in IMPORTS.items() for other in names if layer(other) > layer(one)]
    assert not wrong


def test_no_module_imports_itself_by_way_of_others() -> None:
    TopologicalSorter(IMPORTS).prepare()


def test_the_product_stands_without_the_study(
    model_folder: Path, write_cifs: Callable[[Path, int], list[Path]], tmp_path: Path
) -> None:
    (cif,) = write_cifs(tmp_path, 1)
    program = (
        "import sys; sys.modules['mofgap.study'] = None\n"
        "from mofgap.cli.main import app\n"
        f"app(['screen', {str(cif)!r}, '--model', {str(model_folder)!r}])\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[1].split("\t")[:3] == ["1", str(cif), cif.stem]
