"""``mofgap examples``: CIFs to try things on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.exits import NOTHING_DONE, fail
from mofgap.cli.options import refuse_taken
from mofgap.shipped import shipped_folder


def examples(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put them; made if need be.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Copy the example CIFs, well-known MOFs with their references, into a folder."""
    try:
        sources = sorted(path for path in shipped_folder("examples").iterdir() if path.is_file())
        targets = [folder / path.name for path in sources]
        refuse_taken(targets, force, "overwrites it, or give another folder", param_hint="DIR")
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in zip(sources, targets, strict=True):
            shutil.copyfile(source, target)
    except OSError as error:
        fail(f"cannot copy the examples: {error}", NOTHING_DONE)
    n_cifs = sum(path.suffix == ".cif" for path in sources)
    typer.echo(f"{n_cifs} CIFs in {folder}; try: mofgap screen {folder}", err=True)
