"""Does the spread of a BaLoRA model follow its error the better the more samples are drawn, and at what cost?

The first draws of the many are the few, so that the points of a curve share their draws. Intervals are
percentile intervals of resampled rows; the verdict is the one that `mofgap compare` gives, of one model::

    python -m benchmarks.samples --table qmof.parquet
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measure import loaded, predicting_parser, print_table, read_splits
from mofgap.choices import BATCH_ATOMS
from mofgap.crystals.dataset import cached_store
from mofgap.gap.predictor import GapPredictor
from mofgap.study.judge.arms import Arms
from mofgap.study.judge.judgement import Bootstrap, trend
from mofgap.study.judge.scores import SPREADS
from mofgap.study.judge.statistics import mae, spearman
from mofgap.study.methods.method import Estimated
from mofgap.study.methods.passes import bayesian

DEFAULT = ("balora-distance", "balora-closed-form")
"""The spread without draws: the first for a model with a neighbour correction, else the second."""
METHODS = ("balora-weights", "balora-rows")


def estimates(
    predictor: GapPredictor,
    frame: pd.DataFrame,
    counts: list[int],
    cache: Path | None,
    methods: Sequence[str] = METHODS,
) -> Estimated:
    """The default spread, and draws, for each row."""
    store = cached_store(frame, predictor.model.graph_config, cache)
    kinds: Any = [method.removeprefix("balora-") for method in methods]
    return bayesian(
        predictor.model, store, range(len(frame)), BATCH_ATOMS, kinds=kinds, counts=counts, seed=0
    )


def tabled(
    found: Estimated, ids: NDArray[Any], gap_dft_ev: NDArray[Any], predictor: GapPredictor
) -> pd.DataFrame:
    """All estimates in the columns that `Arms` reads, the total spread as the model calibrates it."""
    parts = [
        pd.DataFrame(
            {
                "method": method,
                "n_samples": n_samples,
                "seed": 0,
                "id": ids,
                "gap_dft_ev": gap_dft_ev,
                "gap_ev": np.maximum(each.gap_ev, 0.0),
                "epistemic_std_ev": each.epistemic_std_ev,
                "gap_std_ev": predictor.calibration.std(each.epistemic_std_ev, each.aleatoric_std_ev),
            }
        )
        for (method, n_samples), each in found.items()
    ]
    return pd.concat(parts, ignore_index=True)


def curves(frame: pd.DataFrame, found: Estimated, bootstrap: Bootstrap) -> pd.DataFrame:
    """A row for each way of predicting and number of draws; 0 draws for a spread without any."""
    arms = {spread: Arms("test", spread, frame) for spread in SPREADS}
    every = [
        *([arms[s].last(name) for s in SPREADS] for name in DEFAULT if arms["total"].last(name)),
        *(
            list(pair)
            for method in METHODS
            for pair in zip(*(arms[spread].curve(method) for spread in SPREADS), strict=True)
        ),
    ]
    rows = []
    for pair in every:
        first = pair[0]
        row: dict[str, Any] = {"method": first.method, "n_samples": first.n_samples}
        for spread, arm in zip(SPREADS, pair, strict=True):
            rank = bootstrap(lambda one: spearman(one[0]), [arm])[0]
            ends = {f"spearman_{spread}_lo": rank.lo, f"spearman_{spread}_hi": rank.hi}
            row |= {f"spearman_{spread}": rank.value, **ends}
        cpu_ms = found[first.method, first.n_samples].ms
        rows.append(row | {"mae_ev": mae(first), "cpu_ms": round(cpu_ms, 1)})
    return pd.DataFrame(rows)


def printed(row: Mapping[Any, Any]) -> list[Any]:
    """A row of the printed table."""
    ranks = [
        "{:.3f} ({:.3f} to {:.3f})".format(*(row[f"spearman_{spread}{end}"] for end in ("", "_lo", "_hi")))
        for spread in SPREADS
    ]
    return [row["method"], row["n_samples"] or "", *ranks, row["mae_ev"], f"{row['cpu_ms']:.1f}"]


def main() -> None:
    """Print the curves and their verdicts."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[2, 4, 8, 16, 32], help="rising")
    parser.add_argument("--split", default="val", help="rows to predict")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="ways of drawing")
    parser.add_argument("--limit", type=int, help="take so many rows")
    parser.add_argument("--draws", type=int, default=1000, help="resamplings of the bootstrap")
    parser.add_argument("--csv", type=Path, help="write the curves here too, numbers as numbers")
    options = parser.parse_args()
    predictor = loaded(options.model)
    frame = read_splits(options.table, options.target, [options.split]).head(options.limit)
    found = estimates(predictor, frame, options.samples, options.cache, options.methods)
    labels = frame[options.target].to_numpy(dtype=np.float64)
    table = tabled(found, frame.structure_id.to_numpy(), labels, predictor)
    bootstrap = Bootstrap(0.95, options.draws, 0)
    header = ["method", "S", "Spearman, epistemic", "Spearman, total", "MAE, eV", "CPU ms a structure"]
    tabulated = curves(table, found, bootstrap)
    print(f"{options.model} on {len(frame)} rows of split {options.split}")
    print_table(header, [printed(row) for row in tabulated.to_dict("records")])
    if options.csv is not None:
        tabulated.round(4).to_csv(options.csv, index=False, lineterminator="\n")
    for spread in SPREADS:
        for method in options.methods:
            curve = trend(Arms("test", spread, table), method, "spearman", bootstrap)
            assert curve is not None
            gain = "{value:+.3f} ({lo:+.3f} to {hi:+.3f})".format(**curve["gain"])
            ends = f"S = {curve['samples'][0]} to {curve['samples'][-1]}"
            print(f"better with more samples, {method}, {spread}: {curve['verdict']}; {ends}: {gain}")


if __name__ == "__main__":
    main()
