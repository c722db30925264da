"""Which layers' noise follows the error, and what noise fitted to held-out errors would gain.

The closed form is a sum over layers, Var f(X) = sum_l alpha_l(X) s_l(X). It prints, for each adapted layer,
its share of that variance, how alpha_l varies from structure to structure, and how well s_l alone ranks the
errors. Then one alpha for each layer is fitted by the predictive likelihood (Laplace, with the aleatoric
part) on split val, and both spreads are judged on split test::

    python -m benchmarks.layers --table qmof.parquet
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from benchmarks.measure import loaded, predicting_parser, print_table, read_splits
from mofgap.crystals.dataset import cached_store
from mofgap.crystals.graph import CrystalGraph
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import at_mean
from mofgap.gap.predictor import GapPredictor
from mofgap.uncertainty.columns import Floats


@dataclass(frozen=True, eq=False)
class Parts:
    """What a split's spreads are made of.

    Attributes:
        per_layer: (n, n_layers) s_l, eV².
        alpha: (n, n_layers) the noise network's factors.
        aleatoric: (n,) spread of the likelihood, eV.
        error: (n,) absolute errors, eV.
    """

    per_layer: Floats
    alpha: Floats
    aleatoric: Floats
    error: Floats

    def spread(self, alpha: Floats, aleatoric: float = 1.0) -> Floats:
        """(n,) total standard deviation for other noise, (n_layers,) or (n, n_layers), eV."""
        total: Floats = np.sqrt((self.per_layer * alpha).sum(1) + aleatoric * self.aleatoric**2)
        return total

    def rank(self, spread: Floats) -> float:
        """Spearman correlation of a spread with the error."""
        return float(spearmanr(spread, self.error).statistic)


def parts_of(predictor: GapPredictor, table: Path, split: str, target: str, cache: Path | None) -> Parts:
    """One forward and one backward pass for each structure of a split."""
    frame = read_splits(table, target, [split])
    store = cached_store(frame, predictor.model.graph_config, cache)
    found = [one(predictor.model, store[i]) for i in range(len(frame))]
    per_layer, alpha, gap, aleatoric = (np.array(column) for column in zip(*found, strict=True))
    error = np.abs(frame[target].to_numpy() - np.maximum(gap, 0.0))
    return Parts(per_layer, alpha, aleatoric, error)


def one(model: GapModel, graph: CrystalGraph) -> tuple[Floats, Floats, float, float]:
    """Sensitivities, noise factors, gap and aleatoric spread of one structure."""
    found = at_mean(model, graph, closed_form=True)
    assert found.sensitivity is not None
    gap, spread = found.corrected(found.gap_ev, found.aleatoric_std_ev)
    per_layer, alpha = (
        each[0].detach().double().numpy() for each in (found.sensitivity.per_layer, found.alpha)
    )
    return per_layer, alpha, float(gap), float(spread)


def fitted(val: Parts) -> tuple[Floats, float]:
    """(n_layers,) alpha and the factor of the aleatoric variance, of greatest Laplace likelihood on val."""

    def loss(logs: Floats) -> tuple[float, Floats]:
        alpha, factor = np.exp(logs[:-1]), float(np.exp(logs[-1]))
        std = val.spread(alpha, factor)
        scaled = np.sqrt(2) * val.error / std
        slope = (1 - scaled) / (2 * std**2)
        by_alpha = (val.per_layer * slope[:, None]).mean(0) * alpha
        by_factor = float((val.aleatoric**2 * slope).mean() * factor)
        return float((np.log(std) + scaled).mean()), np.append(by_alpha, by_factor)

    start = np.append(np.log(val.alpha.mean(0)), 0.0)
    logs = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x
    return np.exp(logs[:-1]), float(np.exp(logs[-1]))


def main() -> None:
    """Print two tables."""
    parser = predicting_parser(__doc__)
    options = parser.parse_args()
    predictor = loaded(options.model)
    val, test = (
        parts_of(predictor, options.table, split, options.target, options.cache) for split in ("val", "test")
    )
    alpha, factor = fitted(val)
    shares = (test.alpha * test.per_layer).mean(0)
    print_table(
        ["layer", "share of variance", "alpha", "its variation", "Spearman of s_l", "alpha fitted"],
        [
            [
                name,
                shares[i] / shares.sum(),
                test.alpha[:, i].mean(),
                test.alpha[:, i].std() / test.alpha[:, i].mean(),
                test.rank(test.per_layer[:, i]),
                alpha[i],
            ]
            for i, name in enumerate(predictor.model.layers)
        ],
    )
    scaling = predictor.calibration.scaling
    scaled = test.spread(scaling.epistemic**2 * test.alpha, scaling.aleatoric**2)
    print_table(
        ["Spearman on test", "epistemic", "total"],
        [
            ["noise network", test.rank((test.alpha * test.per_layer).sum(1)), test.rank(scaled)],
            ["alpha fitted on val", test.rank(test.per_layer @ alpha), test.rank(test.spread(alpha, factor))],
        ],
    )


if __name__ == "__main__":
    main()
