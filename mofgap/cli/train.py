"""``mofgap train``: fine-tune a gap model on labelled structures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mofgap.cli.options import Cache, MaxAtoms, PartialOccupancies, Resume
from mofgap.cli.schema import with_settings
from mofgap.configuration import ConfigurationError, from_dict, read_sections
from mofgap.configuration import plain as to_plain
from mofgap.plain_words import settings_of
from mofgap.threads import use_cores
from mofgap.training.config import NETWORK, ComputeConfig, TrainingConfig
from mofgap.training.job import LabelsConfig, ModelTraining, TrainingJob

LabelsArgument = Annotated[
    Path | None,
    typer.Argument(help="Parquet table of structures and gaps; or CSV, TSV or Excel file of labels."),
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
SecondModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER",
        help="Gap model of which the mean with this one is predicted: of the same level of theory, and "
        "trained by itself.",
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
AllRowsOption = Annotated[
    bool,
    typer.Option(
        "--all-rows",
        help="Learn from every labelled structure, whatever its split: for a release, once all is chosen.",
    ),
]
LevelOfTheoryOption = Annotated[str, typer.Option(help="Of the labels, shown with each gap.")]
CitationOption = Annotated[str, typer.Option(help="Whom to cite for the labels, and their licence.")]


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML of a run, of which the sections data and training count; options go before it.",
    ),
]
_NAMES = {"start_from": "from_model", "from_model": "start_from"}
"""What an option is called in a section, and the other way round."""


@with_settings(TrainingConfig, ComputeConfig, blocks="N,N,...", modules="NAME,NAME,...")
def train(
    context: typer.Context,
    labels: LabelsArgument = None,
    cifs: CifsArgument = None,
    config: ConfigOption = None,
    output: OutputOption = Path("model"),
    target: TargetOption = "gap_ev",
    start_from: StartFromOption = None,
    encoder: EncoderOption = "crystal-transformer",
    second_model: SecondModelOption = None,
    split_column: SplitColumnOption = "split",
    all_rows: AllRowsOption = False,
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
    ``--all-rows``, or with ``--from``, fewer than 500 labels and no column of splits, there is none: every
    structure is learnt from, all epochs are run, and the error bars come from five more trainings that leave
    out a fifth each.
    """
    if labels is None and config is None:
        raise typer.BadParameter("name the labels, or a run by --config", param_hint="LABELS")
    with _named():
        job = _job(config, _given(context))
        job.check()
    use_cores(job.training.devices)  # before torch is imported
    from mofgap.cli.training_run import check_output, execute

    check_output(output)
    execute(job, output, resume=resume)


def _given(context: typer.Context) -> dict[str, Any]:
    """The settings of the command line, without what was left at its default."""
    given: dict[str, Any] = {}
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            given[_NAMES.get(name, name)] = value
    return given


def _job(config: Path | None, given: dict[str, Any]) -> TrainingJob:
    """The training of a file, or of options alone; options go before.

    Raises:
        ConfigurationError: The file ``config`` cannot be read, or a setting cannot be used.
    """
    parts = {"data": LabelsConfig, "training": ModelTraining}
    plain = {} if config is None else read_sections(config, tuple(parts))
    for key, cls in parts.items():
        plain[key] = {**(plain.get(key) or {}), **{n: v for n, v in given.items() if n in settings_of(cls)}}
    if plain["training"].get("from_model") is not None:
        for name in (*NETWORK, "encoder"):
            if name in given:
                raise ConfigurationError("the gap model of --from has its own: leave it out", key=name)
    return from_dict(TrainingJob, to_plain(plain))


@contextmanager
def _named() -> Iterator[None]:
    """Turn a setting that cannot be used into wrong usage of its option."""
    try:
        yield
    except ConfigurationError as error:
        problem = error.problems[0]
        key = problem.key.rpartition(".")[2].partition("[")[0]
        option = {"labels": "LABELS", "cifs": "CIFS", "from_model": "--from"}.get(key)
        raise typer.BadParameter(
            problem.words, param_hint=option or (f"--{key.replace('_', '-')}" if key else None)
        ) from error
