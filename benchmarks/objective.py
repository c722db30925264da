"""Would the spread follow the error better if alpha(X) were at the optimum of what training minimises?

To second order in the noise, training minimises h(X) Var f(X) / 2 + beta sum_l w_l KL(alpha_l) for each
structure: h is the curvature of its weighted likelihood, w_l the share of layer l in the random elements, and
Var f(X) = sum_l alpha_l s_l(X) the closed form. No noise network has to be trained to see where that leads:
alpha_l = c / (1 + c h s_l / (beta w_l)), with c the prior's variance. It prints how that spread ranks the
errors for several beta, beside alpha(X) as trained, a constant, the likelihood's own spread, and
the trained ensemble::

    python -m benchmarks.objective --run runs/qmof-claims --split group
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr

from benchmarks.measure import one_thread, parser_of, print_table
from mofgap.balora import elements_per_layer
from mofgap.configuration import load
from mofgap.gap.folder import read_model
from mofgap.gap.posterior import at_mean
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import Dataset, SplitRows, read
from mofgap.study.engine.config import RunConfig
from mofgap.study.judge.arms import Arm, Arms
from mofgap.study.judge.judgement import ENSEMBLE, Bootstrap, difference
from mofgap.study.judge.statistics import spearman
from mofgap.study.layout import Layout
from mofgap.uncertainty.columns import Floats

CLOSED_FORM = "balora-closed-form"


@dataclass(frozen=True, eq=False)
class Training:
    """What the spreads of one training are made of, for n structures.

    Attributes:
        per_layer: (n, n_layers) s_l, eV².
        alpha: (n, n_layers) as trained.
        gap_ev: (n,) predicted.
        spread_ev: (n,) of the likelihood.
        curvature: (n,) h, 1/eV².
        share: (n_layers,) w_l.
        prior: c.
    """

    per_layer: Floats
    alpha: Floats
    gap_ev: Floats
    spread_ev: Floats
    curvature: Floats
    share: Floats
    prior: float

    def optimum(self, beta: float) -> Floats:
        """(n, n_layers) alpha of least loss for a weight of the divergence."""
        pull = self.curvature[:, None] * self.per_layer / (beta * self.share)
        return self.prior / (1 + self.prior * pull)

    def std_ev(self, alpha: Floats) -> Floats:
        """(n,) epistemic spread."""
        std: Floats = np.sqrt((alpha * self.per_layer).sum(1))
        return std


def training_of(folder: Path, dataset: Dataset, rows: SplitRows, config: ComparisonConfig) -> Training:
    """One forward and one backward pass for each structure that is predicted."""
    model = read_model(folder)[0].eval()
    found = [at_mean(model, b, closed_form=True) for b in dataset.store.batches(rows.all, 2000)]
    columns = [
        (f.sensitivity.per_layer, f.alpha, f.gap_ev, f.aleatoric_std_ev) for f in found if f.sensitivity
    ]
    per_layer, alpha, gap, spread = (torch.cat(parts).double() for parts in zip(*columns, strict=True))
    # Of a Laplace likelihood with standard deviation s: 2/s², in expectation over its errors.
    curvature = 2 / spread**2 * (spread / model.gap_std_ev) ** config.recipe.error_weighting
    elements = elements_per_layer(model.layers).double()
    return Training(
        per_layer.numpy(),
        alpha.numpy(),
        gap.clamp_min(0).numpy(),
        spread.numpy(),
        curvature.numpy(),
        (elements / elements.sum()).numpy(),
        model.config.balora.prior_variance,
    )


def arm_of(table: pd.DataFrame, name: str, spreads: list[Floats], rows: SplitRows, dataset: Dataset) -> Arm:
    """Other spreads in place of the closed form's, on the test rows."""
    ids = dataset.frame.structure_id.iloc[rows.all].to_numpy()
    own = table[table.method == CLOSED_FORM].assign(method=name)
    for seed, spread in enumerate(spreads):
        mine = own.seed == seed
        own.loc[mine, "epistemic_std_ev"] = own.id[mine].map(dict(zip(ids, spread, strict=True)))
    arm = Arms("", "epistemic", own).last(name)
    assert arm is not None
    return arm


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished mofgap compare")
    parser.add_argument("--split", default="group", help="of the run's splits")
    weights = [1.0, 0.1, 0.03, 0.01, 0.003, 0.001]
    parser.add_argument("--weights", nargs="+", type=float, default=weights, help="beta")
    options = parser.parse_args()
    one_thread()
    config = load(RunConfig, options.run / "config.yaml").comparison_in(options.run)
    dataset, layout = read(options.run), Layout(options.run)
    rows = dataset.predicted(config, options.split)
    folders = [
        layout.member(f"{options.split}/balora-seed{i}")
        for i in range(config.splits[options.split].trainings.balora)
    ]
    trainings = [training_of(folder, dataset, rows, config) for folder in folders]
    predictions = pd.read_parquet(options.run / "predictions.parquet")
    arms = Arms.of(predictions, options.split, "epistemic")
    ensemble = arms.last(ENSEMBLE)
    if ensemble is None or ensemble.std_ev is None:
        raise SystemExit(f"{options.run}: no {ENSEMBLE} on split {options.split}")
    bootstrap = Bootstrap.of(config.judgement)
    is_val = np.array(rows.part) == "val"
    error = [np.abs(t.gap_ev - dataset.gap_ev[rows.all]) for t in trainings]

    def row(name: str, spreads: list[Floats], variation: float | str = "") -> list[Any]:
        on_val = [spearmanr(s[is_val], e[is_val]).statistic for s, e in zip(spreads, error, strict=True)]
        arm = arm_of(arms.frame, name, spreads, rows, dataset)
        (gain,) = bootstrap(difference(spearman), (arm, ensemble))
        interval = f"{gain.value:+.3f} ({gain.lo:+.3f} to {gain.hi:+.3f})"
        return [name, variation, float(np.mean(spreads)), float(np.mean(on_val)), spearman(arm), interval]

    def row_of(name: str, alphas: list[Floats]) -> list[Any]:
        variation = float(np.mean([np.log(alpha).std(0).mean() for alpha in alphas]))
        return row(name, [t.std_ev(a) for t, a in zip(trainings, alphas, strict=True)], variation)

    constant = [np.full_like(t.alpha, t.prior) for t in trainings]
    lines = [
        row_of("alpha(X) as trained", [t.alpha for t in trainings]),
        row_of("the prior's, constant", constant),
    ]
    for beta in options.weights:
        lines.append(row_of(f"optimum, beta {beta:g}", [t.optimum(beta) for t in trainings]))
    lines.append(row("the likelihood's spread", [t.spread_ev for t in trainings]))
    lines.append([ensemble.label, "", float(ensemble.std_ev.mean()), "", spearman(ensemble), ""])
    against = f"minus {ensemble.label}, {config.judgement.level:.0%} interval"
    print_table(["", "std of log alpha", "mean std, eV", "Spearman on val", "on test", against], lines)


if __name__ == "__main__":
    main()
