"""How well are metals read that neither pretraining nor training ever saw?

All rows with a withheld metal leave pretraining and training, and are predicted afterwards. Compared are
encoders with a table of elements, whose unseen rows are random or means of similar elements' rows
(`mofgap.training.unseen`), and with descriptors. A training goes on where it was stopped.
``--leave-out`` trains nothing: a model reads each metal that it knows as others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.measure import add_table, one_thread, parser_of, print_table, read_rows
from benchmarks.pretraining import how
from benchmarks.rare_metals import reading_as
from mofgap.choices import Precision
from mofgap.crystals.bonds import IS_METAL
from mofgap.crystals.dataset import cached_store
from mofgap.crystals.elements import atomic_number, symbol_of
from mofgap.encoders.element_features import ELEMENT_FEATURES
from mofgap.encoders.elements import similar_elements
from mofgap.encoders.registry import DEFAULT_ARCHITECTURE
from mofgap.gap.folder import About
from mofgap.gap.posterior import predict_store
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.gap.unseen_elements import factor, widening
from mofgap.shipped import CONFIG
from mofgap.training.config import FinetuneConfig, PretrainConfig, TrainingConfig
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.labels import Labels
from mofgap.training.network import network
from mofgap.training.pretrain import pretrain
from mofgap.training.recipe import train
from mofgap.training.unseen import LEAST_SEEN
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.metrics import coverage, mae

METALS = ("Zr", "In", "Cd", "Sc", "Eu", "Rh", "Mo")
COMMON, MOST_COMMON, MOST_ATOMS = "Cd", 300, 150
"""Of the rows that have no withheld metal but the commonest, so many of few atoms are predicted."""

MOST_VAL, LEAST_VAL, MOST_VAL_ATOMS = 10, 3, 200
"""Rows of val with a metal that are predicted without it, and their size."""


def having(frame: pd.DataFrame, symbol: str) -> NDArray[np.bool_]:
    """(n,) which rows have an element."""
    number = atomic_number(symbol)
    return np.array([number in each for each in frame.atomic_numbers], dtype=bool)


def withheld(table: pd.DataFrame, metals: Sequence[str], max_atoms: int) -> pd.DataFrame:
    """Small rows of train and val without the metals, and rows of both with them as split test."""
    numbers = set(map(atomic_number, metals))
    found = table.atomic_numbers.map(lambda each: numbers & set(each.tolist()))
    n_atoms = table.atomic_numbers.map(len)
    has, public = found.map(bool), table.split == "test"
    common = found.map(lambda each: each == {atomic_number(COMMON)})
    seen = table[~has & ~public & (n_atoms <= max_atoms)]
    some = table[common & ~public & (n_atoms <= MOST_ATOMS)]
    some = some.sample(min(MOST_COMMON, len(some)), random_state=0)
    held = pd.concat([table[has & ~common & ~public], some])
    return pd.concat([seen, held.assign(split="test")], ignore_index=True)


def trained(frame: pd.DataFrame, target: str, kind: str, options: argparse.Namespace) -> Path:
    """Folder of a model with this kind of element features; trained where it is not there yet."""
    output: Path = options.output
    encoder, model, shared = output / f"encoder-{kind}", output / f"gap-{kind}", how(options)
    if not (model / CONFIG).exists():
        pretraining = PretrainConfig(epochs=options.pretrain_epochs)
        pretrain(frame, encoder, DEFAULT_ARCHITECTURE, {"elements": kind}, pretraining, **shared)
        found = find_encoder(str(encoder))
        config = FinetuneConfig(epochs=options.epochs, batch_atoms=1250, unfreeze=True)
        labels = Labels(frame, target, ())
        train(labels, model, network(TrainingConfig(), found), config, found.weights, About(kind), **shared)
    return model


@torch.no_grad()
def forget(predictor: GapPredictor) -> None:
    """Make the rows of elements that were never seen random again."""
    torch.manual_seed(0)
    for table in predictor.model.encoder.element_tables:
        unseen = torch.from_numpy(predictor.novelty.element_counts[: len(table.weight)] == 0)
        table.weight[unseen] = torch.randn_like(table.weight[unseen])


def predicted(
    predictor: GapPredictor, frame: pd.DataFrame, cache: Path | None, wider: float | None = None
) -> dict[str, Floats]:
    """Gaps and the ends of 90 % intervals, eV, (n,) each; ``wider`` is the factor of an unseen element."""
    store = cached_store(frame, predictor.model.graph_config, cache)
    found = predict_store(predictor.model, store, range(len(frame)))
    gap = np.maximum(found.gap_ev, 0.0)
    novelty = predictor.novelty.score(found.features, frame.atomic_numbers.tolist())
    std = predictor.calibration.std(np.nan_to_num(found.epistemic_std_ev), found.aleatoric_std_ev)
    std = std * (wider or widening(novelty, predictor.model.config.substitutes))
    lo, hi = predictor.calibration.interval(gap, std, 0.9, 1.0 + 0 * gap if wider else novelty.percentile)
    return {"gap": gap, "lo": lo, "hi": hi}


def scores(
    name: str, frame: pd.DataFrame, target: str, metals: Sequence[str], found: dict[str, Floats]
) -> Iterator[list[object]]:
    """Error, coverage and width over the rows with each metal, and over all of them."""
    true = frame[target].to_numpy(dtype=np.float64)
    parts = {symbol: having(frame, symbol) for symbol in metals}
    for part, mask in (parts | {"all": np.ones(len(frame), dtype=bool)}).items():
        gap, lo, hi = (found[key][mask] for key in ("gap", "lo", "hi"))
        inside, width = coverage(true[mask], lo, hi), float((hi - lo).mean())
        yield [name, part, int(mask.sum()), mae(true[mask], gap), inside, width]


def leave_out(predictor: GapPredictor, table: pd.DataFrame, target: str) -> Iterator[list[object]]:
    """Error on rows of val as they are and with each metal read as similar ones, and the coverage then."""
    often = np.flatnonzero(predictor.novelty.element_counts >= LEAST_SEEN).tolist()
    rows = table[(table.split == "val") & (table.atomic_numbers.map(len) <= MOST_VAL_ATOMS)]
    for z in (z for z in often if IS_METAL[z]):
        symbol = symbol_of(z)
        some = rows[having(rows, symbol)].head(MOST_VAL)
        if len(some) < LEAST_VAL:
            continue
        known = predicted(predictor, some, None)
        shares = {symbol_of(other): share for other, share in similar_elements(z, often).items()}
        with reading_as(predictor, symbol, shares):
            found = predicted(predictor, some, None, factor(symbol, shares))
        true = some[target].to_numpy(dtype=np.float64)
        scores = mae(true, known["gap"]), mae(true, found["gap"]), coverage(true, found["lo"], found["hi"])
        yield [f"{symbol} as {next(iter(shares))}", len(some), *scores]


def main() -> None:
    """Train what is not there yet, and print the errors on rows with the withheld metals."""
    parser = parser_of(__doc__)
    add_table(parser)
    parser.add_argument("--metals", nargs="+", default=METALS, help="those to withhold")
    parser.add_argument("--max-atoms", type=int, default=100, help="of the rows to learn from")
    parser.add_argument("--elements", nargs="+", default=list(ELEMENT_FEATURES), choices=ELEMENT_FEATURES)
    parser.add_argument("--pretrain-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--precision", choices=get_args(Precision), default="bf16-mixed")
    parser.add_argument("-o", "--output", type=Path, default=Path("withheld"), help="folder of the trainings")
    parser.add_argument("--leave-out", metavar="MODEL", help="read each metal of this model as others")
    options = parser.parse_args()
    one_thread()
    table = read_rows(options.table, options.target, ("train", "val"))
    if options.leave_out:
        rows = list(leave_out(load_model(options.leave_out, device="cpu"), table, options.target))
        rows.append(["mean", "", *(float(np.mean([row[i] for row in rows])) for i in (2, 3, 4))])
        print_table(["metal", "rows", "MAE, eV", "without it", "coverage of 90 % then"], rows)
        return
    frame = withheld(table, options.metals, options.max_atoms)
    held = frame[frame.split == "test"].reset_index(drop=True)
    mean_ev = float(frame[options.target][frame.split == "train"].mean())
    constant = {key: np.full(len(held), mean_ev) for key in ("gap", "lo", "hi")}
    rows = list(scores("constant", held, options.target, options.metals, constant))
    for kind in options.elements:
        folder = trained(frame, options.target, kind, options)
        predictor = load_model(folder, device="cpu")
        found = predicted(predictor, held, options.output / "cache")
        rows += scores(kind, held, options.target, options.metals, found)
        if predictor.model.encoder.element_tables:
            forget(predictor)
            found = predicted(predictor, held, options.output / "cache")
            rows += scores("random rows", held, options.target, options.metals, found)
    print_table(["elements", "metal", "rows", "MAE, eV", "coverage of 90 %", "width, eV"], rows)


if __name__ == "__main__":
    main()
