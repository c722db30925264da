"""``mofgap pretrain``: teach an encoder what DFT knows about atoms."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from mofgap.cli.exits import NOTHING_DONE, fail
from mofgap.cli.options import BatchAtoms, Cache, Devices, Epochs, Precision, Resume, TrainingDevice, refused
from mofgap.encoders.registry import DEFAULT, ENCODERS, encoder_config, registered

Architecture = Annotated[
    str, typer.Option(metavar="NAME", help=f"Encoder to pretrain: {', '.join(ENCODERS)}.")
]
Blocks = Annotated[
    int | None, typer.Option(min=1, help="Blocks of the encoder.", show_default="the encoder's own")
]
Width = Annotated[
    int | None, typer.Option(min=8, help="Features of an atom.", show_default="the encoder's own")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="Another setting of the encoder, such as n_heads=4; may be repeated."
    ),
]


def pretrain(
    table: Annotated[Path, typer.Argument(help="Parquet table of structures with per-atom targets.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Encoder folder to write.")] = Path(
        "encoder"
    ),
    architecture: Architecture = DEFAULT,
    blocks: Blocks = None,
    width: Width = None,
    setting: Settings = None,
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
    """Pretrain an encoder on per-atom charges, bond orders, moments and masked elements.

    Learns from the rows of split ``train`` and chooses the epoch on split ``val``.
    """
    from mofgap.crystals.dataset import TableError, read_table
    from mofgap.training.atoms import PretrainConfig
    from mofgap.training.card import write_encoder_card
    from mofgap.training.loop import Compute, TrainingError
    from mofgap.training.pretrain import pretrain as pretrain_encoder

    with refused("--architecture"):
        registered(architecture)
    with refused():
        settings = _settings(blocks, width, setting or ())
        encoder_config(architecture, settings)
    try:
        frame = read_table(table)
        weights = pretrain_encoder(
            frame,
            output,
            architecture,
            settings,
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


def _settings(blocks: int | None, width: int | None, others: Iterable[str]) -> dict[str, Any]:
    """Settings of the encoder that were asked for.

    Raises:
        ValueError: If a setting is not of the form ``KEY=VALUE``.
    """
    named: dict[str, Any] = {"n_blocks": blocks, "width": width}
    for text in others:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not of the form KEY=VALUE, such as n_heads=4")
        try:
            named[key] = json.loads(value)
        except ValueError:  # neither a number, nor true or false
            named[key] = value
    return {key: value for key, value in named.items() if value is not None}
