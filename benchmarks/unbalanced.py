"""How often structures whose charges do not add up have hardly any gap, and which error bar fits them."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import loaded, predicted, predicting_parser, print_table, read_splits
from mofgap.crystals.checks import OPEN_SHELL
from mofgap.gap.error_bars import UNKNOWN_STD_EV
from mofgap.training.labels import are_unbalanced
from mofgap.uncertainty.columns import Floats

CLOSED_EV = 0.5
"""A gap below it is called nearly closed."""
PARTS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Of the predicted gap, which the standard deviation might be."""
DRAWS = 200
LEVEL = 0.9


def part_of_labels(gap_ev: Floats, others_ev: Floats) -> float:
    """Root mean square distance of gaps from those of other structures, as a part of their root mean square.

    It needs no prediction: each gap is compared with gaps of the others, drawn at random.
    """
    drawn = np.random.default_rng(0).choice(others_ev, (DRAWS, len(gap_ev)))
    return float(np.sqrt(np.square(gap_ev - drawn).mean() / np.square(drawn).mean()))


def log_likelihood(error_ev: Floats, std_ev: Floats) -> float:
    """Mean log likelihood of errors that are Gaussian, without its constant."""
    return float((-np.log(std_ev) - 0.5 * np.square(error_ev / std_ev)).mean())


def main() -> None:
    """Print shares of nearly closed gaps on train, and likelihoods of the errors on val."""
    parser = predicting_parser(__doc__)
    options = parser.parse_args()
    frame = read_splits(options.table, options.target, ["train", "val"])
    unbalanced = are_unbalanced(frame)
    open_shell = np.array([bool(OPEN_SHELL & set(numbers)) for numbers in frame.atomic_numbers])
    gap, train = frame[options.target].to_numpy(dtype=np.float64), (frame.split == "train").to_numpy()
    rows: list[list[object]] = []
    for kind, metals in (("closed-shell metals", ~open_shell), ("open-shell metals", open_shell)):
        for name, held in (("do not add up", unbalanced), ("add up", ~unbalanced)):
            chosen = gap[train & metals & held]
            rows.append([f"{kind}, charges {name}", len(chosen), f"{(chosen < CLOSED_EV).mean():.1%}"])
    print_table(["split train", "rows", f"gaps below {CLOSED_EV} eV"], rows)
    part = part_of_labels(*(gap[train & ~open_shell & held] for held in (unbalanced, ~unbalanced)))
    print(f"closed-shell metals: spread between the gaps of both, as a part of the second: {part:.2f}\n")
    val = frame[~train & unbalanced]
    predictor = loaded(options.model)
    found, said = predicted(predictor, val, options.cache)
    true = val[options.target].to_numpy(dtype=np.float64)
    error = true - said.gap_ev
    own = predictor.calibrated(found, val.atomic_numbers.tolist()).gap_std_ev
    rows = []
    for part in PARTS:
        std = np.minimum(np.hypot(own, part * said.gap_ev), UNKNOWN_STD_EV)
        low, high = predictor.calibration.interval(said.gap_ev, std, LEVEL, said.novelty)
        covered = f"{((low <= true) & (true <= high)).mean():.0%}"
        rows.append(
            [part, log_likelihood(error, std), float(np.sqrt(np.square(error / std).mean())), covered]
        )
    ratio, inside = "root mean square of error / std", f"in the {LEVEL:.0%} interval"
    print_table(["part of the gap", "log likelihood", ratio, inside], rows)
    print(f"split val: {len(val)} rows, mean absolute error {np.abs(error).mean():.3f} eV")


if __name__ == "__main__":
    main()
