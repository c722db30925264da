"""``mofgap screen``: CIFs in, ranked gaps with error bars out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.options import Device, MaxAtoms, PartialOccupancies, Uncertainty, refused
from mofgap.screening.levels import DEFAULT, MODELS, Level, models_of
from mofgap.screening.rank import Novel, RankBy, ranking

InputsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="CIF files (also .cif.gz), folders of them, glob patterns, archives (.zip, .tar, .tar.gz, "
        ".tar.xz), @list.txt with a name a line, or - for such a list, or a CIF, on standard input.",
    ),
]
WindowOption = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LO HI", help="Gap window in eV: rank by the probability to lie in it."),
]
RankByOption = Annotated[
    RankBy | None,
    typer.Option(help="What comes first: likeliest in the window, lowest or highest gap, smallest std."),
]
TopOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Keep the N best only; failures are listed all the same."),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Table to write: .csv, .parquet, .json, .xlsx or .html."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER", help="A shipped model, or a model folder.", show_default=MODELS[DEFAULT]
    ),
]
LevelOption = Annotated[
    Level | None,
    typer.Option(
        help="Shipped model of a level of theory, instead of --model: pbe, hse06 (nearer to experiment), "
        "or both: hse06, with pbe in columns beside it."
    ),
]
UncertaintyOption = Annotated[
    Uncertainty,
    typer.Option(
        help="The model's own doubt: without sampling, or from samples. That of rows draws for each "
        "atom, and shrinks in a larger cell of the same crystal."
    ),
]
SamplesOption = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="S",
        help="Samples of weights or rows; 0 gives the mean alone. Intervals are fitted to the closed form: "
        "rows, or fewer than 16 samples, are marked.",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the samples.")]
CoverageOption = Annotated[
    float, typer.Option(metavar="0.5..0.99", help="Of the intervals; names their columns.")
]
NoveltyOption = Annotated[
    Novel,
    typer.Option("--novelty", "--novel", help="Structures unlike all of training, which may mislead."),
]
WorkersOption = Annotated[
    int, typer.Option(min=1, metavar="N", help="Processes; the table is the same for any number.")
]
DeviceOption = Annotated[Device, typer.Option(help="Where the network runs.")]
BatchAtomsOption = Annotated[int, typer.Option(min=1, help="Atoms of a batch on a GPU.")]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Screen the I-th of N shares only; mofgap gather makes the table."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with a run of the same settings that was cut off.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite the output, or what is left of a run.")]


def screen(
    inputs: InputsArgument,
    window: WindowOption = None,
    rank_by: RankByOption = None,
    top: TopOption = None,
    output: OutputOption = None,
    model: ModelOption = None,
    level: LevelOption = None,
    uncertainty: UncertaintyOption = "closed-form",
    samples: SamplesOption = 32,
    seed: SeedOption = 0,
    max_atoms: MaxAtoms = 1000,
    disorder: PartialOccupancies = "refuse",
    coverage: CoverageOption = 0.9,
    novelty: NoveltyOption = "keep",
    workers: WorkersOption = 1,
    device: DeviceOption = "auto",
    batch_atoms: BatchAtomsOption = 4000,
    shard: ShardOption = None,
    resume: ResumeOption = False,
    force: ForceOption = False,
) -> None:
    """Predict band gaps of structures and rank them.

    Every structure is a row, failures included. Exit code: 0 all read, 3 some failed, 1 nothing could be
    done, 2 wrong usage.
    """
    from mofgap.cli.screening_run import checked_target, execute
    from mofgap.screening.shard import Shard

    with refused("--shard"):
        share = None if shard is None else Shard.parse(shard)
    target = checked_target(output, share, resume, force)
    with refused("--rank-by"):
        order = ranking(rank_by, window)
    # Workers inherit it: as many threads in each as there are cores would slow all of them down.
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
    from mofgap.screening.run import ScreeningRun
    from mofgap.screening.settings import Settings

    with refused():
        settings = Settings(window, uncertainty, samples, seed, batch_atoms, max_atoms, disorder, coverage)
    with refused("--level"):
        models = models_of(level, model)
    names = tuple(inputs)
    run = ScreeningRun(names, settings, order, top, novelty, models, device, workers, share, target)
    execute(run, resume)
