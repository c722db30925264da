"""The stage that pretrains an encoder for the comparison of its run."""

from __future__ import annotations

from pathlib import Path

from mofgap.configuration import part, to_dict
from mofgap.shipped import DESCRIPTION, LAST, LOG
from mofgap.study.engine.config import PRETRAINED, RunConfig, RunPretraining
from mofgap.study.engine.stage import Stage


def pretrain_stage(asked: RunPretraining) -> Stage:
    """The stage; the encoder lies in ``pretraining``."""
    settings = to_dict(asked)
    table = settings.pop("table")
    return Stage(
        rule="pretrain",
        work=_pretrain,
        settings=settings,
        modules=("mofgap.training.pretrain",),
        writes=(f"{PRETRAINED}/**",),
        costs=(f"{PRETRAINED}/{LOG}",),  # the log of epochs has their times
        files=(table,),
        device=asked.device,
    )


def _pretrain(config: RunConfig, run: Path) -> None:
    from mofgap.crystals.dataset import TableError, read_table
    from mofgap.training.compute import Compute
    from mofgap.training.pretrain import pretrain

    asked, folder = config.pretraining, run / PRETRAINED
    assert asked is not None  # there would be no such stage
    compute = part(Compute, vars(asked), progress=False)
    encoder = asked.encoder_settings
    begun = (folder / LAST).exists()
    if not (folder / DESCRIPTION).exists():  # which is written last
        try:
            frame, how = read_table(asked.table), asked.training
            pretrain(frame, folder, asked.architecture, encoder, how, resume=begun, compute=compute)
        except TableError as error:
            raise TableError(f"{asked.table}: {error}") from error
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()
