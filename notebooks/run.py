"""Run notebooks from their text sources and keep their outputs: python notebooks/run.py [01 05 ...]."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
TIMEOUT_SECONDS = 1800
WIDGET = "application/vnd.jupyter.widget-view+json"


def run(source: Path) -> None:
    """Write ``NAME.ipynb`` beside ``NAME.py``, with the outputs of a fresh kernel."""
    notebook = jupytext.read(source)
    started, used = time.perf_counter(), _cpu_seconds()
    NotebookClient(
        notebook,
        timeout=TIMEOUT_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    ).execute()
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # a random one would differ in every run
        if "outputs" in cell:  # a bar that has ended is an empty widget
            cell.outputs = [each for each in cell.outputs if WIDGET not in each.get("data", {})]
    notebook.metadata.pop("language_info", None)  # names a version of Python
    target = source.with_suffix(".ipynb")
    nbformat.write(notebook, target)
    print(
        f"{target.name}: {time.perf_counter() - started:.0f} s by the clock, {_cpu_seconds() - used:.0f} s of one core, "
        f"{target.stat().st_size / 1e3:.0f} kB"
    )


def _cpu_seconds() -> float:
    """What processes that have ended have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(wanted: list[str]) -> None:
    """Run the notebooks whose names begin with one of the texts; all without any."""
    # `mofgap` in a cell is the program of this environment, and no kernel takes more than its share.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    shutil.rmtree(HERE / "out", ignore_errors=True)  # trained here before, a notebook would not train again
    for source in sorted(HERE.glob("[0-9]*.py")):
        if not wanted or source.name.startswith(tuple(wanted)):
            run(source)


if __name__ == "__main__":
    main(sys.argv[1:])
