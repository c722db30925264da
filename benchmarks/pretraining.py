"""What does each source of pretraining bring, at how many labels?

Encoders start from random weights, from charges and bond orders of PBE or of GFN1-xTB, and from gaps of
GFN1-xTB. All their weights are then trained on some or all gaps of the table. Structures of train are
learnt from, those of val are scored. GFN1-xTB comes with the package ``tblite``. A run that was stopped goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch

from benchmarks.measure import add_table, one_thread, parser_of, print_table, read_rows
from benchmarks.xtb import single_point
from mofgap.choices import Precision
from mofgap.crystals.dataset import table_crystals
from mofgap.encoders.registry import DEFAULT_ARCHITECTURE, build_encoder
from mofgap.gap.folder import About
from mofgap.shipped import CONFIG, DESCRIPTION, METRICS
from mofgap.training.atoms import ATOM_TARGETS, XTB_TARGETS
from mofgap.training.compute import Compute
from mofgap.training.config import FinetuneConfig, PretrainConfig, TrainingConfig
from mofgap.training.encoder_folder import find_encoder, save_encoder
from mofgap.training.labels import Labels
from mofgap.training.network import network
from mofgap.training.pretrain import pretrain
from mofgap.training.recipe import train

XTB_GAP = "xtb_gap_ev"
N_CHOOSING = 300
"""Structures of train that choose the epoch, and are not learnt from."""
CHUNK = 100
"""Structures of a file of GFN1-xTB, the unit in which a stopped run goes on."""
TARGETS = {"PBE": ATOM_TARGETS, "xTB": XTB_TARGETS}
"""Targets of atoms by their calculation."""
FEWEST = 500
"""So many labels get all passes; the passes over more fall with the square root of their number."""


@dataclass(frozen=True)
class Source:
    """What an encoder learns before it learns gaps of the table.

    Attributes:
        name: In the table of results.
        atoms: The calculation of the atoms' targets, a key of `TARGETS`; empty for none.
        gaps: Whether it then learns gaps of GFN1-xTB.
    """

    name: str
    atoms: str = ""
    gaps: bool = False

    @property
    def key(self) -> str:
        """The name as a part of a folder's."""
        return self.name.replace(" ", "-")


SOURCES = (
    Source("none"),
    Source("PBE", "PBE"),
    Source("xTB", "xTB"),
    Source("xTB and its gaps", "xTB", gaps=True),
    Source("PBE and xTB gaps", "PBE", gaps=True),
)


def rows_of(table: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Small structures: those of train as splits train and val, those of val as split test."""
    table = table[table.atomic_numbers.map(len) <= options.max_atoms]
    learnt = table[table.split == "train"].sample(frac=1, random_state=0)
    learnt["split"] = np.where(np.arange(len(learnt)) < N_CHOOSING, "val", "train")
    scored = table[table.split == "val"]
    return pd.concat([learnt, scored.assign(split="test")], ignore_index=True)


def with_xtb(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The rows with targets of GFN1-xTB, without those that it cannot compute; they are kept in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(frame), CHUNK):
        path = folder / f"{start:06d}.parquet"
        if not path.exists():
            computed(frame.iloc[start : start + CHUNK]).to_parquet(path, index=False)
        parts.append(pd.read_parquet(path))
    merged: pd.DataFrame = frame.merge(pd.concat(parts), on="structure_id", validate="one_to_one")
    return merged


def computed(frame: pd.DataFrame) -> pd.DataFrame:
    """Targets of GFN1-xTB of the rows that it can compute, and that have an even number of electrons."""
    crystals = (crystal for crystal in table_crystals(frame) if crystal.atomic_numbers.sum() % 2 == 0)
    found = ((crystal, single_point(crystal)) for crystal in crystals)
    rows = [
        (crystal.structure_id, point.gap_ev, point.charge_e, point.bond_order)
        for crystal, point in found
        if point is not None
    ]
    return pd.DataFrame(rows, columns=["structure_id", XTB_GAP, *XTB_TARGETS])


def encoder_of(source: Source, frame: pd.DataFrame, options: argparse.Namespace) -> Path:
    """Folder of an encoder that learnt the atoms' targets of a source, made where it is not there yet."""
    folder: Path = options.output / f"encoder-{source.atoms or 'none'}"
    if (folder / DESCRIPTION).exists():
        return folder
    if source.atoms:
        others = [name for kind, names in TARGETS.items() for name in names if kind != source.atoms]
        config = PretrainConfig(epochs=options.pretrain_epochs, batch_atoms=options.batch_atoms)
        pretrain(frame.drop(columns=others), folder, DEFAULT_ARCHITECTURE, {}, config, **how(options))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        encoder = build_encoder(DEFAULT_ARCHITECTURE, {})
        described = {"architecture": DEFAULT_ARCHITECTURE, "encoder": asdict(encoder.config)}
        save_encoder(folder, encoder.state_dict(), described)
    return folder


def scores(
    labels: Labels, name: str, encoder: Path, start: Path | None, options: argparse.Namespace
) -> dict[str, float]:
    """Scores on split test of a model with these labels, trained where it is not there yet.

    Args:
        labels: Structures and gaps.
        name: Of the model.
        encoder: Folder of the encoder to start from.
        start: Folder of a gap model to start from instead.
        options: Of the command line.
    """
    folder = options.output / name
    if not (folder / CONFIG).exists():
        n = len(labels.positions("train"))
        config = FinetuneConfig(
            epochs=round(options.epochs * (FEWEST / n) ** 0.5),
            batch_atoms=options.batch_atoms,
            learning_rate=options.learning_rate,
            unfreeze=True,
            neighbour_correction=False,
        )
        found = find_encoder(str(encoder))
        model_config = None if start else network(TrainingConfig(method="full"), found)
        train(
            labels, folder, model_config, config, start or found.weights, About(labels.target), **how(options)
        )
    metrics: dict[str, dict[str, float]] = json.loads((folder / METRICS).read_text())["metrics"]
    return metrics.get("test", {})


def how(options: argparse.Namespace) -> dict[str, Any]:
    """How every training runs."""
    compute = Compute("cpu", precision=options.precision, progress=False)
    return {"cache": options.output / "cache", "resume": True, "compute": compute}


def main() -> None:
    """Train what is not there yet, and print the errors by source and number of labels."""
    parser = parser_of(__doc__)
    add_table(parser)
    parser.add_argument("--labels", nargs="+", type=int, default=[500, 2000, 10**6], help="at most all")
    parser.add_argument("--sources", nargs="+", choices=[each.name for each in SOURCES], help="default: all")
    parser.add_argument("--max-atoms", type=int, default=100, help="of structures with gaps")
    parser.add_argument("--max-xtb-atoms", type=int, default=60, help="of structures to pretrain on")
    parser.add_argument("--pretrain-epochs", type=int, default=8, help="passes over targets of atoms")
    parser.add_argument("--epochs", type=int, default=30, help=f"passes over {FEWEST} gaps; fewer over more")
    parser.add_argument("--batch-atoms", type=int, default=1250)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--precision", choices=get_args(Precision), default="bf16-mixed")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("pretraining"), help="folder of the trainings"
    )
    options = parser.parse_args()
    one_thread()
    frame = rows_of(read_rows(options.table, options.target, ("train", "val")), options)
    learnt, scored = frame[frame.split != "test"], frame[frame.split == "test"]
    small = learnt[learnt.atomic_numbers.map(len) <= options.max_xtb_atoms]
    xtb = with_xtb(small.reset_index(drop=True), options.output / "xtb")
    rows: list[list[object]] = []
    for source in SOURCES:
        if options.sources and source.name not in options.sources:
            continue
        encoder, start = encoder_of(source, xtb, options), None
        if source.gaps:
            name = f"gaps-{source.key}"
            scores(Labels(xtb, XTB_GAP, ()), name, encoder, None, options)
            start = options.output / name
        for most in options.labels:
            some = learnt[(learnt.split == "val") | ((learnt.split == "train").cumsum() <= most)]
            labels = Labels(pd.concat([some, scored], ignore_index=True), options.target, ())
            n = len(labels.positions("train"))
            found = scores(labels, f"labels-{n}-{source.key}", encoder, start, options)
            rows.append([source.name, n, *(found[key] for key in ("mae_ev", "spearman", "coverage_90"))])
    print(f"pretraining on {len(xtb)} structures; {len(scored)} rows of split val are scored")
    print_table(["pretraining", "labels", "MAE, eV", "Spearman", "coverage of 90 %"], rows)


if __name__ == "__main__":
    main()
