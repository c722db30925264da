"""``mofgap train``: fine-tune a gap model on labelled structures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mofgap.cli.exits import say
from mofgap.cli.options import DEVICES, OPTIMISATION, Resume, refused
from mofgap.cli.schema import option_of, with_settings
from mofgap.configuration import ConfigurationError, from_dict, read_sections
from mofgap.configuration import plain as to_plain
from mofgap.plain_words import meaning, settings_of
from mofgap.threads import use_cores
from mofgap.training.config import NETWORK, ComputeConfig
from mofgap.training.job import LabelsConfig, ModelTraining, TrainingJob

LabelsArgument = Annotated[
    Path | None, typer.Argument(metavar="LABELS", help=meaning(settings_of(LabelsConfig)["labels"]))
]
CifsArgument = Annotated[
    Path | None, typer.Argument(metavar="CIFS", help=meaning(settings_of(LabelsConfig)["cifs"]))
]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")]
FromOption = Annotated[str | None, option_of(ModelTraining, "from_model", "--from", metavar="NAME|FOLDER")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of a run: its sections data and training are used. Options override it.",
    ),
]
NAMES = {"labels": "LABELS", "cifs": "CIFS", "from_model": "--from"}
"""What the command line calls settings whose options have other names."""


@with_settings(
    LabelsConfig,
    ModelTraining,
    panels={
        "Network": ("encoder", "ensemble_with", *NETWORK, "unfreeze", "neighbour_correction"),
        OPTIMISATION: (
            *("learning_rate", "encoder_learning_rate", "noise_learning_rate", "weight_decay", "warmup"),
            *("kl_weight", "kl_warmup", "noise", "alpha", "dropout", "error_weighting"),
            *("batch_atoms", "patience"),
        ),
        DEVICES: tuple(settings_of(ComputeConfig)),
    },
    ensemble_with="MODEL,MODEL,...",
    blocks="N,N,...",
    modules="NAME,NAME,...",
)
def train(
    context: typer.Context,
    labels: LabelsArgument = None,
    cifs: CifsArgument = None,
    config: ConfigOption = None,
    output: OutputOption = Path("model"),
    from_model: FromOption = None,
    resume: Resume = False,
    **settings: Any,
) -> None:
    """Fine-tune a gap model on labelled structures, calibrate it, and write a model folder.

    The structures of split ``val`` choose the epoch and calibrate the error bars. With ``--all-rows`` all
    structures are trained on, for all epochs. The error bars then come from five more trainings, each without
    a fifth. The same holds with ``--from`` and fewer than 500 labels, if no column says the split.
    """
    if labels is None and config is None:
        raise typer.BadParameter("name the labels, or a run by --config", param_hint="LABELS")
    with refused(names=NAMES):
        job = _job(config, _given(context))
        job.check()
        if job.training.nodes > 1 and not {"SLURM_JOB_ID", "MASTER_ADDR"} & os.environ.keys():
            what = "this would wait for other nodes for ever: start it by srun or torchrun"
            raise ConfigurationError(what, key="nodes")
    for line in job.training.notes if config is not None else ():  # options are refused
        say(line)
    use_cores(job.training.devices)  # before torch is imported
    from mofgap.cli.training_run import check_output, execute

    check_output(output, resume=resume)
    execute(job, output, resume=resume)


def _given(context: typer.Context) -> dict[str, Any]:
    """The settings of the command line, without what was left at its default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source is not None and source.name != "DEFAULT"]
    return {name: context.params[name] for name in given}


def _job(config: Path | None, given: dict[str, Any]) -> TrainingJob:
    """The training of a configuration file, or of options alone. Options override the file.

    Raises:
        ConfigurationError: If the file ``config`` cannot be read, or a setting cannot be used.
    """
    parts = {"data": LabelsConfig, "training": ModelTraining}
    plain = {} if config is None else read_sections(config, tuple(parts))
    for key, cls in parts.items():
        if not isinstance(plain.get(key) or {}, Mapping):
            raise ConfigurationError("expected keys with values", key=key)
        plain[key] = {**(plain.get(key) or {}), **{n: v for n, v in given.items() if n in settings_of(cls)}}
    if plain["training"].get("from_model") is not None:
        for name in (*NETWORK, "encoder"):
            if name in given:
                raise ConfigurationError("the gap model of --from has its own: leave it out", key=name)
    return from_dict(TrainingJob, to_plain(plain))
