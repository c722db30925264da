"""``mofgap pretrain``: teach an encoder what DFT knows about atoms."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from mofgap.cli.exits import say, told
from mofgap.cli.options import DEVICES, OPTIMISATION, Cache, Resume, needs_file, refused
from mofgap.cli.schema import with_settings
from mofgap.cli.tables import command_line
from mofgap.configuration import part
from mofgap.encoders.registry import encoder_config
from mofgap.plain_words import settings_of
from mofgap.shipped import DESCRIPTION, LAST
from mofgap.threads import use_cores
from mofgap.training.config import ComputeConfig, PretrainingConfig, TrainingConfig

Settings = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="Another setting of the encoder, such as n_heads=4; may be repeated."
    ),
]


@with_settings(
    PretrainingConfig,
    ComputeConfig,
    panels={
        OPTIMISATION: (
            "batch_atoms",
            "learning_rate",
            "weight_decay",
            "warmup",
            "mask_fraction",
            "mask_weight",
        ),
        DEVICES: tuple(settings_of(ComputeConfig)),
    },
    architecture="NAME",
)
def pretrain(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Parquet table of structures with per-atom targets.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Encoder folder to write.")] = Path(
        "encoder"
    ),
    setting: Settings = None,
    citation: Annotated[str, typer.Option(help="Reference to cite for the table, and its licence.")] = "",
    cache: Cache = None,
    resume: Resume = False,
    **settings: Any,
) -> None:
    """Pretrain an encoder on per-atom charges, bond orders, moments and masked elements.

    Rows of split ``train`` are trained on. Split ``val`` chooses the epoch.
    """
    with refused():
        config = part(PretrainingConfig, settings)
        encoder = config.encoder_settings | _settings(setting or ())
        n_blocks = encoder_config(config.architecture, encoder).n_blocks
        use_cores(part(ComputeConfig, settings).devices)  # before torch is imported
    needs_file(table)
    if (output / DESCRIPTION).exists() and not (output / LAST).exists():
        what = f"{output} holds an encoder whose training is gone"
        raise typer.BadParameter(f"{what}; name another folder", param_hint="--output")
    from mofgap.crystals.dataset import read_table
    from mofgap.training.card import write_encoder_card
    from mofgap.training.compute import Compute
    from mofgap.training.pretrain import pretrain as pretrain_encoder

    with refused():
        compute = part(Compute, settings, progress=True)
    with told():
        frame, how = read_table(table), config.training
        pretrain_encoder(
            frame, output, config.architecture, encoder, how, cache=cache, resume=resume, compute=compute
        )
    n_train = int((frame.split == "train").sum())
    write_encoder_card(output, n_train, command_line(), citation)
    last = tuple(range(n_blocks)[-3:])
    blocks = "" if last == TrainingConfig().blocks else f" --blocks {','.join(map(str, last))}"
    what_next = f"mofgap train LABELS CIFS --encoder {shlex.quote(str(output))}{blocks}"
    say(f"wrote {output}; next: {what_next}")


def _settings(texts: Iterable[str]) -> dict[str, Any]:
    """Further settings of the encoder.

    Raises:
        ValueError: If a text of ``texts`` does not have the form ``KEY=VALUE``.
    """
    named: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not of the form KEY=VALUE, such as n_heads=4")
        try:
            named[key] = json.loads(value)
        except ValueError:  # neither a number, nor true or false
            named[key] = value
    return named
