"""What a posterior costs besides LoRA: parameters, training steps and predictions.

A small transformer encoder on made-up tokens is trained with each posterior and way of drawing. Times
are CPU time on one thread, as ratios to plain LoRA of the same rank in the same run::

    python -m benchmarks.adapters
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import cpu_seconds, one_thread, parser_of, print_table
from mofgap.balora import BaLoRAConfig, BaLoRAModel, get_balora_model

N_TRAIN = 1000
WAYS: dict[str, dict[str, Any]] = {
    "LoRA": {"posterior": "none"},
    "BaLoRA, weights": {},
    "BaLoRA, weights without flipout": {"flipout": False},
    "BaLoRA, rows": {"noise": "rows"},
    "constant alpha (variational dropout)": {"posterior": "constant"},
    "diagonal Gaussian (as in BLoB)": {"posterior": "diagonal"},
    "analytic alpha": {"posterior": "analytic"},
}


class Classifier(nn.Module):
    """A transformer encoder and a head of some classes."""

    def __init__(self, width: int, n_blocks: int, n_classes: int) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, n_blocks, enable_nested_tensor=False)
        self.head = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_classes) from (n, tokens, width)."""
        logits: Tensor = self.head(self.encoder(x).mean(1))
        return logits


def made(settings: dict[str, Any], options: argparse.Namespace) -> BaLoRAModel:
    """The same network and adapters for every posterior."""
    torch.manual_seed(0)
    net = Classifier(options.width, options.blocks, options.classes)
    config = BaLoRAConfig(r=options.rank, target_modules=("linear1", "linear2"), n_train=N_TRAIN, **settings)
    return get_balora_model(net, config)


def training(model: BaLoRAModel) -> Callable[[Tensor], object]:
    """One step of training on a batch."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def step(x: Tensor) -> None:
        model.train()
        loss = nn.functional.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.int64))
        optimizer.zero_grad()
        (loss + model.kl_loss(N_TRAIN)).backward()
        optimizer.step()

    return step


def predicting(model: BaLoRAModel) -> Callable[[Tensor], object]:
    """The mean alone for LoRA; mean and standard deviation in closed form for the others."""
    if model.config.posterior != "none":
        return lambda x: model.eval().predict(x)

    def mean(x: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model.eval()(x)
        return logits

    return mean


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--classes", type=int, default=1, help="outputs of the model")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    one_thread()
    models = {name: made(settings, options) for name, settings in WAYS.items()}
    batches = [torch.randn(options.batch, 32, options.width)]
    steps = cpu_seconds({n: training(m) for n, m in models.items()}, batches, options.repeats)
    passes = cpu_seconds({n: predicting(m) for n, m in models.items()}, batches, options.repeats)
    trained = {name: model.get_nb_trainable_parameters()[0] for name, model in models.items()}

    def ratio(times: dict[str, Any], name: str) -> float:
        return float(np.mean(times[name]) / np.mean(times["LoRA"]))

    print_table(
        ["posterior", "trained parameters", "to LoRA", "training step", "prediction"],
        [[n, trained[n], trained[n] / trained["LoRA"], ratio(steps, n), ratio(passes, n)] for n in models],
    )


if __name__ == "__main__":
    main()
