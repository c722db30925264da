"""``mofgap screen``: structures in, ranked gaps with error bars out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mofgap.cli.options import needs_model, refuse_input, refused
from mofgap.cli.schema import with_settings
from mofgap.cli.tables import AsJson
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.plain_words import settings_of
from mofgap.screening.config import ScreeningConfig

if TYPE_CHECKING:
    from mofgap.screening.run import ScreeningRun

LARGE = "Large screenings"
"""Heading of options in the help."""

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Files: CIF, POSCAR, CONTCAR, .xyz with a cell, .json of pymatgen, .db and .traj of ASE. Or "
        "many: folders, glob patterns, archives (.zip, .tar, .tar.gz, .tar.xz), or @list.txt with one name "
        "on each line. - reads such a list, or a CIF, from standard input.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Table to write: .csv, .parquet, .json, .xlsx or .html."),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Screen only the I-th of N shares; mofgap gather then makes the table.",
        rich_help_panel=LARGE,
    ),
]
ListOption = Annotated[
    int | None,
    typer.Option(
        "--list",
        metavar="N",
        min=1,
        help="Screen nothing: list the inputs once for N shards, in the folder TABLE.inputs. Give each shard "
        "that folder as its input.",
        rich_help_panel=LARGE,
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue a stopped run of the same settings.")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Overwrite the output, or start a stopped run again.")
]


@with_settings(
    ScreeningConfig,
    panels={
        "Structures": ("max_atoms", "disorder", *settings_of(PreparationConfig)),
        "Error bars": ("coverage", "uncertainty", "samples", "seed"),
        LARGE: ("workers", "device", "batch_atoms"),
    },
    window="LO HI",
    model="NAME|FOLDER",
)
def screen(
    inputs: InputsArgument,
    output: OutputOption = None,
    shard: ShardOption = None,
    list_for: ListOption = None,
    resume: ResumeOption = False,
    force: ForceOption = False,
    as_json: AsJson = False,
    **settings: Any,
) -> None:
    """Predict band gaps of structures and rank them.

    Every structure gets a row, also one that cannot be read. Exit code: 0 all were read, 3 some failed, 1
    nothing could be done, 2 wrong usage.
    """
    from mofgap.cli.screening_run import check_complete, checked_target, execute, list_inputs
    from mofgap.screening.shard import Shard

    with refused():
        config = ScreeningConfig(**settings)
    for name in config.models:
        if name is not None:
            needs_model(name)
    if list_for is not None:
        if shard is not None or resume or as_json:
            raise typer.BadParameter("goes without --shard, --resume and --json", param_hint="--list")
        list_inputs(inputs, output, list_for, force)
        return
    with refused("--shard"):
        share = None if shard is None else Shard.parse(shard)
    if output is not None:
        refuse_input(output, inputs)
    # Workers inherit it: as many threads in each as there are cores would slow all of them down.
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

    def run_to(target: Path | None) -> ScreeningRun:
        from mofgap.screening.run import ScreeningRun

        return ScreeningRun(tuple(inputs), config, share, target)

    target = checked_target(output, share, resume, force, lambda shard: check_complete(run_to(shard)))
    execute(run_to(target), resume, as_json)
