"""The stage that pretrains an encoder for the comparison of its run."""

from __future__ import annotations

from pathlib import Path

from mofgap.configuration import to_dict
from mofgap.study.engine.config import PRETRAINED, PretrainingConfig, RunConfig
from mofgap.study.engine.stage import Stage


def pretrain_stage(asked: PretrainingConfig) -> Stage:
    """The stage; the encoder lies in ``pretraining``."""
    settings = to_dict(asked)
    table = settings.pop("table")
    return Stage(
        rule="pretrain",
        work=_pretrain,
        settings=settings,
        modules=("mofgap.training.pretrain",),
        writes=(f"{PRETRAINED}/**",),
        files=(table,),
    )


def _pretrain(config: RunConfig, run: Path) -> None:
    from mofgap.crystals.dataset import TableError, read_table
    from mofgap.training.atoms import PretrainConfig
    from mofgap.training.loop import LAST, Compute
    from mofgap.training.pretrain import pretrain

    asked, folder = config.pretraining, run / PRETRAINED
    assert asked is not None  # there would be no such stage
    compute = Compute(
        asked.device, asked.devices, asked.nodes, asked.strategy, asked.precision, progress=False
    )
    settings = PretrainConfig(
        epochs=asked.epochs,
        batch_atoms=asked.batch_atoms,
        learning_rate=asked.learning_rate,
        seed=asked.seed,
    )
    size = {"n_blocks": asked.blocks, "width": asked.width}
    frame, begun = read_table(asked.table), (folder / LAST).exists()
    try:
        pretrain(frame, folder, asked.architecture, size, settings, resume=begun, compute=compute)
    except TableError as error:
        raise TableError(f"{asked.table}: {error}") from error
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()
