"""``mofgap gather``: the shards of a screening become its table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.exits import NOTHING_DONE, fail, told
from mofgap.cli.options import refuse_input, refuse_taken
from mofgap.cli.tables import command_line
from mofgap.counts import counted
from mofgap.shipped import CONFIG, shipped_folder
from mofgap.whole_file import sha256_of


def gather(
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARD...", help="Files of mofgap screen --shard, each shard once."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Table to write: .csv, .parquet, .json, .xlsx or .html.")
    ],
    part_rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Write a folder NAME.parquet with files of N rows each, the best rows in the first.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the table.")] = False,
) -> None:
    """Combine the shards of a screening into the table that one mofgap screen would have written.

    Window, ranking and all other settings are those of the shards. Exit codes are those of mofgap screen.
    """
    from mofgap.cli.screening_run import check_output, conclude, write_output
    from mofgap.screening.gather import gather as gather_shards
    from mofgap.screening.origin import MODEL_DIGEST
    from mofgap.screening.table import PAGE, rows_path

    if part_rows is None or not output.is_dir():
        check_output(output, output)
    if part_rows is not None and output.suffix != ".parquet":
        raise typer.BadParameter("--part-rows needs NAME.parquet", param_hint="--output")
    refuse_input(output, shards)
    refuse_taken([output, *([rows_path(output)] if output.suffix.lower() == PAGE else [])], force)
    with told(), gather_shards(shards, output.parent) as found:
        outcome, novelty, duplicates = found.outcome, found.header["novelty"], found.header["duplicates"]
        has_window = found.header.get("window") is not None
        if not outcome.n_rows:
            fail("no inputs: the shards are empty", NOTHING_DONE)
        if outcome.nothing_done and output.exists():
            fail(f"nothing could be predicted; {output} is kept as it was", NOTHING_DONE)
        if part_rows is None:
            found.write(output, partial(write_output, settings=found.header), command_line())
        else:
            found.write_parts(output, part_rows, command_line())
    where = f" of {counted(len(shards), 'shard')}"
    model = None if _is_shipped(found.header[MODEL_DIGEST]) else "FOLDER"  # shards know no more of it
    conclude(outcome, novelty, duplicates, output, where, has_window=has_window, model=model)


def _is_shipped(digest: str) -> bool:
    """Whether a shipped model has a config with this sha256."""
    return any(sha256_of(path) == digest for path in shipped_folder("models").glob(f"*/{CONFIG}"))
