"""A simulated campaign: how many calculations until so many gaps inside a window are found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.measure import at_most, loaded, predicted, predicting_parser, print_table, read_splits
from mofgap.crystals.dataset import cached_store
from mofgap.gap.posterior import predict_store
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.selection.candidates import GOALS, quality
from mofgap.selection.diverse import choose
from mofgap.selection.select import likeness_length, whitened
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.columns import Floats

Order = NDArray[np.intp]
N_SHUFFLES = 500


def candidates(
    predictor: GapPredictor, frame: pd.DataFrame, window: tuple[float, float], cache: Path | None
) -> tuple[pd.DataFrame, Floats]:
    """What a screening says of each row, and the whitened features (n, n_dims)."""
    found, said = predicted(predictor, frame, cache)
    inside = predictor.calibration.p_in_window(said.gap_ev, said.gap_std_ev, *window, said.novelty)
    columns = {"gap_ev": said.gap_ev, "gap_std_ev": said.gap_std_ev, "novelty": said.novelty}
    table = pd.DataFrame(columns | {"p_in_window": inside})
    return table, whitened(found.features, predictor.novelty)


def ensemble_probability(
    folders: Sequence[Path], frame: pd.DataFrame, window: tuple[float, float], cache: Path | None
) -> Floats:
    """What an ensemble of models says of the window: a Gaussian of their mean and their spread.

    The variance is that between the members plus the mean of their own aleatoric ones, before any calibration
    (Lakshminarayanan, Pritzel and Blundell, arXiv 1612.01474).
    """
    gaps, variances = [], []
    for folder in folders:
        model = load_model(folder, device="cpu").model
        found = predict_store(model, cached_store(frame, model.graph_config, cache), range(len(frame)))
        gaps.append(found.gap_ev)
        variances.append(found.aleatoric_std_ev**2)
    std = np.sqrt(np.var(gaps, axis=0, ddof=1) + np.mean(variances, axis=0))
    return Calibration.raw().p_in_window(np.mean(gaps, axis=0), std, *window)


def in_batches(worth: Floats, points: Floats, length: float, batch: int) -> Order:
    """The order in which `choose` takes everything, so many at a time; what it never takes comes last."""
    left, order = np.arange(len(worth)), list[int]()
    while len(left):
        picks = choose(worth[left], points[left], length, batch)
        if not picks:
            break
        order += left[[pick.index for pick in picks]].tolist()
        left = np.setdiff1d(left, order, assume_unique=True)
    return np.array([*order, *left[np.argsort(-worth[left], kind="stable")]], dtype=np.intp)


def calculations(order: Order, hit: NDArray[np.bool_], n_wanted: int) -> int:
    """How many calculations in this order give the wanted number of hits."""
    return int(np.searchsorted(np.cumsum(hit[order]), n_wanted) + 1)


def report(orders: dict[str, Order], shuffles: Sequence[Order], hit: NDArray[np.bool_], wanted: int) -> None:
    """Print the calculations that each order takes, and their ratio to random order."""
    by_chance = np.array([calculations(order, hit, wanted) for order in shuffles])
    low, high = np.quantile(by_chance, [0.05, 0.95]).tolist()
    mean = float(by_chance.mean())
    rows: list[list[object]] = [["random order", mean, 1.0, f"{low:.0f} to {high:.0f}"]]
    for name, order in orders.items():
        n = calculations(order, hit, wanted)
        rows.append([name, n, n / mean, f"{hit[order[:wanted]].mean():.0%} of the first {wanted}"])
    print_table(["order", "calculations", "times random", "90 % of shuffles, or hits"], rows)


def main() -> None:
    """Simulate the campaign on rows that the model was not trained on."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--splits", nargs="+", default=["val", "test"], help="rows to choose from")
    parser.add_argument("--window", nargs=2, type=float, default=(1.8, 3.0), help="ends in eV")
    parser.add_argument("--wanted", type=int, default=100, help="hits at which the campaign ends")
    parser.add_argument("--batch", type=int, default=20, help="calculations that are selected at a time")
    parser.add_argument(
        "--ensemble", nargs="+", type=Path, help="model folders that differ by their seed, to rank by instead"
    )
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    options = parser.parse_args()
    predictor = loaded(options.model)
    frame = read_splits(options.table, options.target, options.splits)
    frame = at_most(frame[~frame.structure_id.isin(predictor.novelty.ids)], options.limit)
    low, high = options.window
    hit = frame[options.target].between(low, high).to_numpy()
    if not hit.any():
        parser.error(f"no gap of these rows lies in {low} to {high} eV")
    wanted = min(options.wanted, int(hit.sum()))
    table, points = candidates(predictor, frame, (low, high), options.cache)
    inside, centre = table.p_in_window.to_numpy(), (low + high) / 2
    orders = {
        "mean nearest the window's middle": np.argsort(np.abs(table.gap_ev - centre), kind="stable"),
        "probability to lie in it": np.argsort(-inside, kind="stable"),
    }
    if options.ensemble:
        stated = ensemble_probability(options.ensemble, frame, (low, high), options.cache)
        name = f"probability by an ensemble of {len(options.ensemble)}"
        orders[name] = np.argsort(-stated, kind="stable")
    length = likeness_length(predictor.novelty)
    for goal in GOALS:
        orders[f"mofgap select --goal {goal}"] = in_batches(
            quality(table, goal), points, length, options.batch
        )
    rng = np.random.default_rng(0)
    print(
        f"{options.model} on {len(frame)} rows of {', '.join(options.splits)}: {int(hit.sum())} gaps in "
        f"{low:g} to {high:g} eV, {wanted} wanted, selected {options.batch} at a time, "
        "the model as it is throughout"
    )
    report(orders, [rng.permutation(len(frame)) for _ in range(N_SHUFFLES)], hit, wanted)


if __name__ == "__main__":
    main()
