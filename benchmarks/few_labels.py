"""Another level of theory from few labels: ``mofgap train --from`` against starting from the encoder."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import add_table, at_most, one_thread, parser_of, print_table, read_rows
from mofgap.crystals.dataset import cached_store
from mofgap.gap.folder import About, find_model, read_config
from mofgap.gap.model import GapModelConfig
from mofgap.gap.posterior import predict_store
from mofgap.gap.predictor import load_model
from mofgap.screening.levels import MODELS
from mofgap.shipped import DEFAULT_ENCODER
from mofgap.training.compute import Compute
from mofgap.training.config import FEW_LABELS, FROM_A_MODEL, FinetuneConfig
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.labels import Labels
from mofgap.training.recipe import train
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.metrics import mae

STARTS = ("model", "encoder")


def labelled(frame: pd.DataFrame, test: pd.DataFrame, n: int, target: str, seed: int) -> Labels:
    """So many labels dealt to train and val as ``--from`` deals them, and the test rows."""
    drawn = frame.sample(n, random_state=seed)
    n_val = 0 if n < FEW_LABELS else n // 10
    drawn = drawn.assign(split=np.where(np.arange(n) < n_val, "val", "train"))
    return Labels(pd.concat([drawn, test], ignore_index=True), target, ())


def raw_gaps(model: str | Path, frame: pd.DataFrame) -> Floats:
    """Gaps of a model, eV."""
    predictor = load_model(model, device="cpu")
    store = cached_store(frame, predictor.model.graph_config, None)
    return predict_store(predictor.model, store, range(len(frame))).gap_ev


def compare(
    labels: Labels,
    starts: dict[str, tuple[GapModelConfig | None, Path]],
    config: FinetuneConfig,
    parent: Floats,
) -> list[list[object]]:
    """Errors on the test rows: of the parent's gaps on a line, and of a training from each start."""
    learnt = labels.positions("train")
    known = [*learnt, *labels.positions("val")]
    test = labels.positions("test")
    gap_ev = labels.frame[labels.target].to_numpy(dtype=np.float64)
    slope, shift = np.polyfit(parent[known], gap_ev[known], 1)
    line = np.maximum(slope * parent[test] + shift, 0.0)
    numbers: list[object] = [len(known), len(learnt)]
    rows = [[*numbers, "the model's gaps on a line", mae(gap_ev[test], line), "", ""]]
    for name, (model_config, start) in starts.items():
        about, compute = About("few-labels"), Compute("cpu", progress=False)
        with tempfile.TemporaryDirectory() as folder:
            outcome = train(labels, Path(folder), model_config, config, start, about, compute=compute)
        scores = outcome.metrics["test"]
        rows.append([*numbers, name, scores["mae_ev"], scores["coverage_90"], scores["width_90_ev"]])
        seconds = f"{outcome.cost.seconds:.0f} s of training"
        print(f"{len(known)} labels, {name}: {seconds}", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Train with each number of labels and print the errors on the test rows."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", default=MODELS["pbe"], help="gap model to start from")
    parser.add_argument("--encoder", default=DEFAULT_ENCODER, help="its pretrained encoder")
    add_table(parser, "hse06_gap_ev")
    parser.add_argument("--labels", nargs="+", type=int, default=[50, 200, 800], help="numbers of labels")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS, help="what to start from")
    parser.add_argument("--split", default="val", help="split the labels are drawn from")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-atoms", type=int, default=800, help="small, since the labels are few")
    parser.add_argument("--learning-rate", type=float, default=FROM_A_MODEL["learning_rate"])
    parser.add_argument("--kl-weight", type=float, default=FROM_A_MODEL["kl_weight"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="a quick look: so many test rows, chosen at random")
    options = parser.parse_args()
    one_thread()
    source, encoder = find_model(options.model), find_encoder(options.encoder).weights
    described = GapModelConfig(**read_config(source)["model"])
    starts = {
        "model": ("train --from", (None, source)),
        "encoder": ("from the encoder", (described, encoder)),
    }
    splits = (options.split, "test")
    frame = read_rows(options.table, options.target, splits)
    pool, test = (frame[frame.split == split] for split in splits)
    test = at_most(test, options.limit)
    config = FinetuneConfig(
        epochs=options.epochs,
        batch_atoms=options.batch_atoms,
        learning_rate=options.learning_rate,
        kl_weight=options.kl_weight,
        seed=options.seed,
    )
    as_it_is = mae(test[options.target], np.maximum(raw_gaps(source, test), 0.0))
    rows: list[list[object]] = [[0, 0, "the model as it is", as_it_is, "", ""]]
    for n in options.labels:
        labels = labelled(pool, test, min(n, len(pool)), options.target, options.seed)
        chosen = dict(starts[name] for name in options.starts)
        rows += compare(labels, chosen, config, raw_gaps(source, labels.frame))
    print(f"{options.target} of {len(test)} rows of split test, labels from split {options.split}")
    header = ["labels", "of them train", "start", "MAE, eV", "coverage of 90 %", "width, eV"]
    print_table(header, rows)


if __name__ == "__main__":
    main()
