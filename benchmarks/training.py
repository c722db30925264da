"""CPU time of fine-tuning by BaLoRA from the shipped encoder, in its parts, on one thread.

It prints what a training pays once (imports, graphs, outputs of the frozen encoder), and what a structure
costs in each pass: forward, backward and optimiser. Products of oneDNN and of MKL, torch's default, take
turns::

    python -m benchmarks.training --limit 200
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import at_most, one_thread, parser_of, print_table
from mofgap.crystals.dataset import cached_store
from mofgap.crystals.store import StoreBatch
from mofgap.encoders.products import fast_products
from mofgap.shipped import DEFAULT_ENCODER, shipped_folder
from mofgap.training.batches import loader
from mofgap.training.config import TrainingConfig
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.finetune import Finetuning, Labelled, frozen_features, frozen_outputs
from mofgap.training.labels import read_labels
from mofgap.training.network import network
from mofgap.training.start import begin_model
from mofgap.uncertainty.columns import Floats

PRECISIONS = {"oneDNN (mofgap)": "medium", "MKL (torch's default)": "highest"}
"""What torch is asked for to multiply by each."""


class Steps:
    """Training steps on some structures, as ``mofgap train`` takes them with its defaults.

    Args:
        table: Parquet table; None for the structures of ``data/quickstart``.
        target: Column of its gaps, eV.
        limit: Training structures.

    Attributes:
        seconds: CPU seconds of what is done once, by name.
        batches: Of one pass.
    """

    def __init__(self, table: Path | None, target: str, limit: int | None) -> None:
        self.seconds: dict[str, float] = {}
        config, found = TrainingConfig(), find_encoder(DEFAULT_ENCODER)
        own = shipped_folder("data") / "quickstart"
        if table is None:
            labels = read_labels(own / "labels.csv", own / "structures.zip", target)
        else:
            labels = read_labels(table, None, target)
        rows = at_most(labels.frame[labels.frame.split == "train"], limit)
        labels = replace(labels, frame=rows.reset_index(drop=True))
        begun = time.process_time()
        model = begin_model(network(config, found), found.weights, config.finetuning).model
        store = cached_store(labels.frame, model.graph_config, None)
        data, how = Labelled.of(labels, store), config.finetuning
        self.seconds["graphs"] = time.process_time() - begun
        begun = time.process_time()
        outputs = frozen_outputs(model, data.store, how.batch_atoms)
        features = frozen_features(model, data.store, how.batch_atoms, outputs)
        self.seconds["frozen encoder"] = time.process_time() - begun
        self.batches = list(loader(data.store, data.train, how.batch_atoms, how.seed, data.n_atoms))
        self.n_structures = sum(batch.n_graphs for batch in self.batches)
        self.module = Finetuning(model, features, data.target, how, len(self.batches), outputs)
        self.module.log_dict = lambda *_, **__: None
        self.optimizer = self.module.configure_optimizers()["optimizer"]

    def step(self, batch: StoreBatch) -> Sequence[float]:
        """One step; CPU seconds of forward, backward and optimiser."""
        clock = [time.process_time()]
        loss = self.module.training_step(batch, 0)
        clock.append(time.process_time())
        self.optimizer.zero_grad()
        loss.backward()
        clock.append(time.process_time())
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        clock.append(time.process_time())
        seconds: list[float] = np.diff(clock).tolist()
        return seconds

    def pass_ms(self) -> Floats:
        """(3,) CPU milliseconds a structure in forward, backward and optimiser."""
        seconds: Floats = np.sum([self.step(batch) for batch in self.batches], axis=0)
        seconds *= 1e3 / self.n_structures
        return seconds


def main() -> None:
    """Print two tables."""
    imports = time.process_time()
    parser = parser_of(__doc__)
    parser.add_argument("--table", type=Path, help="parquet table; by default data/quickstart")
    parser.add_argument("--target", default="gap_ev", help="column of its gaps, eV")
    parser.add_argument("--limit", type=int, default=200, help="training structures")
    parser.add_argument(
        "--repeats", type=int, default=3, help="passes with each library; the shortest counts"
    )
    asked = parser.parse_args()
    one_thread()
    steps = Steps(asked.table, asked.target, asked.limit)
    atoms = sum(batch.n_atoms for batch in steps.batches) / steps.n_structures
    with fast_products():
        onednn = torch.get_float32_matmul_precision() != "highest"
    print(f"{steps.n_structures} structures of {atoms:.0f} atoms, one thread; oneDNN: {onednn}")
    print_table(("once, CPU s", ""), [("imports", imports), *steps.seconds.items()])
    steps.step(steps.batches[0])  # which loads what is loaded late
    found: dict[str, list[Floats]] = {name: [] for name in PRECISIONS}
    for _ in range(asked.repeats):
        for name, precision in PRECISIONS.items():
            torch.set_float32_matmul_precision(precision)
            found[name].append(steps.pass_ms())
    best = {name: np.min(passes, axis=0) for name, passes in found.items()}
    rows = [(name, *times.tolist(), float(times.sum())) for name, times in best.items()]
    print_table(("each pass, CPU ms a structure", "forward", "backward", "optimiser", "all"), rows)


if __name__ == "__main__":
    main()
