"""``mofgap train``: fine-tune a gap model on labelled structures."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mofgap.cli.exits import NOTHING_DONE, fail
from mofgap.cli.options import (
    Adaptation,
    BatchAtoms,
    Cache,
    Devices,
    MaxAtoms,
    PartialOccupancies,
    Precision,
    Resume,
    TrainingDevice,
)
from mofgap.cli.skipped import tell_skipped

if TYPE_CHECKING:
    from mofgap.gap.model import GapModelConfig


LabelsArgument = Annotated[
    Path, typer.Argument(help="Parquet table of structures and gaps, or CSV of labels.")
]
CifsArgument = Annotated[Path | None, typer.Argument(help="Folder or archive of the CIFs that a CSV labels.")]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Model folder to write.")]
TargetOption = Annotated[str, typer.Option(help="Column of the gaps, eV.")]
MethodOption = Annotated[
    Adaptation, typer.Option(help="Bayesian adapters, plain adapters, or all weights of the encoder.")
]
StartFromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|FOLDER",
        help="Gap model to take to another level of theory: adapters and head go on from there, and its "
        "encoder, method, rank and head width hold.",
    ),
]
EncoderOption = Annotated[
    str, typer.Option(help="Pretrained encoder: a shipped name, or a folder of mofgap pretrain.")
]
AdaptFromBlockOption = Annotated[
    int, typer.Option(min=0, help="First block with adapters; what lies below is computed once.")
]
RankOption = Annotated[int, typer.Option(min=1, help="Rank of the adapters.")]
HeadHiddenOption = Annotated[int, typer.Option(min=1, help="Width of the gap head.")]
UnfreezeOption = Annotated[
    bool,
    typer.Option(
        "--unfreeze",
        help="Let the encoder's weights without adapters move too. Novelty is then the distance from the "
        "structures of this training alone.",
    ),
]
EpochsOption = Annotated[
    int,
    typer.Option(
        min=0,
        help="Passes over the training structures. 0, with --from, keeps the weights; neighbour correction, "
        "error bars and novelty are made anew.",
    ),
]
LearningRateOption = Annotated[
    float | None,
    typer.Option(min=0, help="Peak rate of adapters and head.", show_default="4e-4; 1e-3 with --from"),
]
EncoderLearningRateOption = Annotated[
    float, typer.Option(min=0, help="Peak rate of the encoder's own weights, where they move.")
]
KlWeightOption = Annotated[
    float | None,
    typer.Option(min=0, help="Weight of the divergence from the prior.", show_default="1; 0.1 with --from"),
]
PatienceOption = Annotated[
    int | None, typer.Option(min=1, help="Stop after so many epochs without improvement.")
]
SplitColumnOption = Annotated[
    str,
    typer.Option(
        help="Column of train/val/test; dealt 80/10/10 without, groups whole, but for few labels with --from."
    ),
]
LevelOfTheoryOption = Annotated[str, typer.Option(help="Of the labels, shown with each gap.")]
CitationOption = Annotated[str, typer.Option(help="Whom to cite for the labels, and their licence.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of initialisation, order and noise.")]


def train(
    labels: LabelsArgument,
    cifs: CifsArgument = None,
    output: OutputOption = Path("model"),
    target: TargetOption = "gap_ev",
    method: MethodOption = "balora",
    start_from: StartFromOption = None,
    encoder: EncoderOption = "crystal-transformer",
    adapt_from_block: AdaptFromBlockOption = 2,
    rank: RankOption = 64,
    head_hidden: HeadHiddenOption = 256,
    unfreeze: UnfreezeOption = False,
    epochs: EpochsOption = 20,
    learning_rate: LearningRateOption = None,
    encoder_learning_rate: EncoderLearningRateOption = 3e-4,
    kl_weight: KlWeightOption = None,
    batch_atoms: BatchAtoms = 2500,
    patience: PatienceOption = None,
    split_column: SplitColumnOption = "split",
    max_atoms: MaxAtoms = 1000,
    disorder: PartialOccupancies = "refuse",
    level_of_theory: LevelOfTheoryOption = "unknown",
    citation: CitationOption = "",
    seed: SeedOption = 0,
    cache: Cache = None,
    device: TrainingDevice = "auto",
    devices: Devices = 1,
    precision: Precision = "32-true",
    resume: Resume = False,
) -> None:
    """Fine-tune a gap model on labelled structures, calibrate it, and write a model folder.

    The epoch is chosen, and the error bars are calibrated, on the structures of split ``val``. With
    ``--from``, fewer than 500 labels and no column of splits there is none: every structure is learnt from,
    all epochs are run, and the error bars come from five more trainings that leave out a fifth each.
    """
    from mofgap.crystals.dataset import TableError
    from mofgap.gap.folder import About, ModelError
    from mofgap.training.card import write_card
    from mofgap.training.finetune import FinetuneConfig
    from mofgap.training.labels import read_labels
    from mofgap.training.loop import Compute, TrainingError
    from mofgap.training.recipe import FEW_LABELS
    from mofgap.training.recipe import train as train_model

    _check_output(output)
    # What few labels need of a model that knows the structures already: a faster rate, a looser posterior.
    usual_rate, usual_weight, few = (1e-3, 0.1, FEW_LABELS) if start_from else (4e-4, 1.0, 0)
    rate = usual_rate if learning_rate is None else learning_rate
    weight = usual_weight if kl_weight is None else kl_weight
    config = FinetuneConfig(
        epochs,
        batch_atoms,
        rate,
        encoder_learning_rate,
        unfreeze,
        kl_weight=weight,
        patience=patience,
        seed=seed,
    )
    about = About(output.name, level_of_theory=level_of_theory, citation=citation)
    try:
        compute = Compute(device, devices, precision=precision, progress=sys.stderr.isatty())
        start, network = _start(start_from, encoder, method, adapt_from_block, head_hidden, rank)
        read = partial(read_labels, disorder=disorder, max_atoms=max_atoms)
        table = read(labels, cifs, target, split_column=split_column, seed=seed, few=few)
        tell_skipped(table.skipped)
        outcome = train_model(
            table, output, network, config, start, about, cache=cache, resume=resume, compute=compute
        )
    except (TableError, ModelError, TrainingError, OSError) as error:
        fail(str(error), NOTHING_DONE)
    write_card(output, table, outcome, config, shlex.join(["mofgap", *sys.argv[1:]]), start)
    typer.echo(_scores(outcome.metrics))
    typer.echo(f"{output}: mofgap screen --model {output} *.cif", err=True)


def _check_output(output: Path) -> None:
    """Refuse a folder of other files, among which those of the model would be lost."""
    from mofgap.gap.folder import CONFIG
    from mofgap.training.lock import KEY
    from mofgap.training.loop import LAST

    begun = (output / CONFIG, output / "training" / KEY, output / "training" / LAST)
    taken = output.is_file() or (output.is_dir() and any(output.iterdir()))
    if taken and not any(path.exists() for path in begun):
        what = f"{output} exists, and is no training"
        raise typer.BadParameter(f"{what}; name a new folder", param_hint="--output")


def _start(
    model: str | None, encoder: str, method: Adaptation, first_block: int, head_hidden: int, rank: int
) -> tuple[Path, GapModelConfig | None]:
    """Where the weights come from, and what is built on an encoder; a gap model brings its own."""
    from mofgap.gap.folder import find_model
    from mofgap.gap.model import GapModelConfig
    from mofgap.training.encoder_folder import find_encoder

    if model is not None:
        return find_model(model), None
    found = find_encoder(encoder)
    n_blocks = found.config.n_blocks
    if first_block >= n_blocks:
        message = f"the blocks of {encoder} are 0 to {n_blocks - 1}: there is no block {first_block}"
        raise typer.BadParameter(message, param_hint="--adapt-from-block")
    return found.weights, GapModelConfig(
        method=method,
        encoder=found.architecture,
        encoder_settings=found.settings,
        target_modules=found.adapter_targets(range(first_block, n_blocks)),
        head_hidden=head_hidden,
        rank=rank,
        lora_alpha=2.0 * rank,
    )


def _scores(metrics: dict[str, dict[str, float]]) -> str:
    shown: dict[str, Any] = {
        "mae_ev": "MAE, eV",
        "spearman": "Spearman(std, |error|)",
        "coverage_90": "coverage of 90 % intervals",
    }
    rows = [["split", *metrics]]
    rows += [[label, *(f"{m[key]:.3f}" for m in metrics.values())] for key, label in shown.items()]
    return "\n".join("\t".join(row) for row in rows)
