"""``mofgap examples``: structures, labels and tables to try things on."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from mofgap.cli.exits import NOTHING_DONE, fail, say, words_of
from mofgap.cli.options import refuse_taken
from mofgap.counts import counted
from mofgap.shipped import shipped_folder

Kind = Literal["mofs", "labels", "tables"]
PLACES: dict[Kind, tuple[str, str]] = {
    "mofs": ("examples", "."),
    "labels": ("data", "quickstart"),
    "tables": ("tables", "."),
}
"""Where each kind is shipped: what `shipped_folder` calls it, and the folder there."""


def examples(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to copy to; it is created if needed.")
    ],
    kind: Annotated[
        Kind,
        typer.Option(
            help="mofs: CIFs of well-known MOFs, with their references. labels: CIFs with gaps, to train on. "
            "tables: scores of the shipped models and of the studies, as CSV."
        ),
    ] = "mofs",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Copy examples into a folder: well-known MOFs, structures with gaps, or tables of scores."""
    labels = [str(folder / name) for name in ("labels.csv", "structures.zip")]
    what_next = {
        "mofs": shlex.join(["mofgap", "screen", str(folder)]),
        "labels": shlex.join(["mofgap", "train", *labels, "-o", "my-model"]),
        "tables": "",
    }
    try:
        shipped, below = PLACES[kind]
        source = shipped_folder(shipped) / below
        names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
        refuse_taken(
            [folder / name for name in names],
            force,
            "overwrites it, or give another folder",
            param_hint="DIR",
        )
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    except OSError as error:
        fail(f"cannot copy the examples: {words_of(error)}", NOTHING_DONE)
    suffix = ".cif" if kind == "mofs" else ".csv"
    n_files = sum(name.suffix == suffix for name in names)
    hint = f"; try: {what_next[kind]}" if what_next[kind] else ""
    say(f"{counted(n_files, f'{suffix[1:].upper()} file')} in {folder}{hint}")
