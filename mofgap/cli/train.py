"""``mofgap train``: fine-tune a gap model on labelled structures."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from mofgap.cli.options import Cache, MaxAtoms, PartialOccupancies, Resume, refused
from mofgap.cli.schema import with_settings
from mofgap.configuration import part
from mofgap.threads import use_cores
from mofgap.training.config import FROM_A_MODEL, NETWORK, ComputeConfig, TrainingConfig

LabelsArgument = Annotated[
    Path, typer.Argument(help="Parquet table of structures and gaps, or CSV of labels.")
]
CifsArgument = Annotated[Path | None, typer.Argument(help="Folder or archive of the CIFs that a CSV labels.")]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")]
TargetOption = Annotated[str, typer.Option(help="Column of the gaps, eV.")]
StartFromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|FOLDER",
        help="Gap model to take to another level of theory: adapters and head go on from there, and its "
        "encoder, method, adapters and head width hold.",
    ),
]
EncoderOption = Annotated[
    str, typer.Option(help="Pretrained encoder: a shipped name, or a folder of mofgap pretrain.")
]
SplitColumnOption = Annotated[
    str,
    typer.Option(
        help="Column of train/val/test; dealt 80/10/10 without, groups whole, but for few labels with --from."
    ),
]
LevelOfTheoryOption = Annotated[str, typer.Option(help="Of the labels, shown with each gap.")]
CitationOption = Annotated[str, typer.Option(help="Whom to cite for the labels, and their licence.")]


@with_settings(TrainingConfig, ComputeConfig, blocks="N,N,...", modules="NAME,NAME,...")
def train(
    context: typer.Context,
    labels: LabelsArgument,
    cifs: CifsArgument = None,
    output: OutputOption = Path("model"),
    target: TargetOption = "gap_ev",
    start_from: StartFromOption = None,
    encoder: EncoderOption = "crystal-transformer",
    split_column: SplitColumnOption = "split",
    max_atoms: MaxAtoms = 1000,
    disorder: PartialOccupancies = "refuse",
    level_of_theory: LevelOfTheoryOption = "unknown",
    citation: CitationOption = "",
    cache: Cache = None,
    resume: Resume = False,
    **settings: Any,
) -> None:
    """Fine-tune a gap model on labelled structures, calibrate it, and write a model folder.

    The epoch is chosen, and the error bars are calibrated, on the structures of split ``val``. With
    ``--from``, fewer than 500 labels and no column of splits there is none: every structure is learnt from,
    all epochs are run, and the error bars come from five more trainings that leave out a fifth each.
    """
    if start_from is not None:
        settings |= _going_on(context)
    with refused():
        config = part(TrainingConfig, settings)
        use_cores(part(ComputeConfig, settings).devices)  # before torch is imported
    from mofgap.cli.training_run import check_output, execute
    from mofgap.gap.folder import About
    from mofgap.training.labels import read_labels
    from mofgap.training.loop import Compute

    check_output(output)
    with refused():
        compute = part(Compute, settings, progress=sys.stderr.isatty())
    how: Any = dict(split_column=split_column, disorder=disorder, max_atoms=max_atoms, seed=config.seed)
    read = partial(read_labels, labels, cifs, target, **how)
    about = About(output.name, level_of_theory=level_of_theory, citation=citation)
    rest = dict(cache=cache, resume=resume, compute=compute)
    execute(read, output, config, start_from, encoder, about, **rest)


def _going_on(context: typer.Context) -> dict[str, float]:
    """The defaults of a training that goes on from a gap model, for what was not given.

    Raises:
        typer.BadParameter: A setting was given that the gap model brings itself.
    """

    def is_given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name != "DEFAULT"

    if own := next(filter(is_given, (*NETWORK, "encoder")), None):
        option = f"--{own.replace('_', '-')}"
        raise typer.BadParameter("the gap model of --from has its own: leave it out", param_hint=option)
    return {name: value for name, value in FROM_A_MODEL.items() if not is_given(name)}
