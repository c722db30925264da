"""``mofgap pretrain``: teach an encoder what DFT knows about atoms."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mofgap.cli.exits import NOTHING_DONE, fail
from mofgap.cli.options import BatchAtoms, Cache, Devices, Epochs, Precision, Resume, TrainingDevice


def pretrain(
    table: Annotated[Path, typer.Argument(help="Parquet table of structures with per-atom targets.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Encoder folder to write.")] = Path(
        "encoder"
    ),
    blocks: Annotated[int, typer.Option(min=1, help="Attention blocks.")] = 5,
    width: Annotated[int, typer.Option(min=8, help="Features of an atom.")] = 128,
    epochs: Epochs = 8,
    batch_atoms: BatchAtoms = 2500,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak of the schedule.")] = 1.5e-3,
    citation: Annotated[str, typer.Option(help="Whom to cite for the table, and its licence.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation, order and masks.")] = 0,
    cache: Cache = None,
    device: TrainingDevice = "auto",
    devices: Devices = 1,
    precision: Precision = "32-true",
    resume: Resume = False,
) -> None:
    """Pretrain the crystal transformer on per-atom charges, bond orders, moments and masked elements.

    Learns from the rows of split ``train`` and chooses the epoch on split ``val``.
    """
    from mofgap.crystals.dataset import TableError, read_table
    from mofgap.encoders.crystal_transformer import CrystalTransformerConfig
    from mofgap.training.atoms import PretrainConfig
    from mofgap.training.card import write_encoder_card
    from mofgap.training.loop import Compute, TrainingError
    from mofgap.training.pretrain import pretrain as pretrain_encoder

    try:
        frame = read_table(table)
        weights = pretrain_encoder(
            frame,
            output,
            CrystalTransformerConfig(n_blocks=blocks, width=width),
            PretrainConfig(epochs=epochs, batch_atoms=batch_atoms, learning_rate=learning_rate, seed=seed),
            cache=cache,
            resume=resume,
            compute=Compute(device, devices, precision=precision, progress=sys.stderr.isatty()),
        )
    except (TableError, TrainingError, OSError, ValueError) as error:
        fail(str(error), NOTHING_DONE)
    n_train = int((frame.split == "train").sum())
    write_encoder_card(output, n_train, shlex.join(["mofgap", *sys.argv[1:]]), citation)
    typer.echo(f"{weights}: mofgap train --encoder {output} ...", err=True)
