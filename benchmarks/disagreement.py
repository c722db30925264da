"""Which share of the disagreement of an ensemble's networks belongs to its error bars, on split val.

Every share has a calibration of its own, which is fitted on four fifths of the rows and scored on the others.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.measure import loaded, predicting_parser, print_table, read_splits
from mofgap.crystals.dataset import cached_store
from mofgap.gap.posterior import DISAGREEMENT, Posterior, at_mean, predict_store
from mofgap.gap.unseen_elements import widening
from mofgap.training.calibration import calibration_of
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.metrics import crps, interval_score, mean_width, spearman

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0)
"""Of the standard deviation of the networks' gaps, added in squares to the distance."""
LEVEL = 0.9
N_FOLDS, N_DEALS = 5, 5


def score(found: Posterior, gap_ev: Floats, novelty: Floats) -> list[float]:
    """Spearman, CRPS, interval score and mean width of calibrations fitted on other rows; means of deals."""
    gap, scores = np.maximum(found.gap_ev, 0.0), []
    std, lo, hi = np.empty((3, len(gap)))
    for deal in range(N_DEALS):
        fold = np.random.default_rng(deal).permutation(len(gap)) % N_FOLDS
        for k in range(N_FOLDS):
            rest, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            ids = [str(i) for i in rest]
            fitted = calibration_of(found.rows(rest), gap_ev[rest], ids, novelty=novelty[rest])
            std[held] = fitted.std(found.epistemic_std_ev[held], found.aleatoric_std_ev[held])
            lo[held], hi[held] = fitted.interval(gap[held], std[held], LEVEL, novelty[held])
        about = gap_ev, gap, std
        scores.append(
            [spearman(*about), crps(*about), interval_score(gap_ev, lo, hi, LEVEL), mean_width(lo, hi)]
        )
    return [float(mean) for mean in np.mean(scores, axis=0)]


def main() -> None:
    """Print the scores of each share."""
    parser = predicting_parser(__doc__)
    options = parser.parse_args()
    frame = read_splits(options.table, options.target, ["val"])
    predictor = loaded(options.model)
    model = predictor.model
    if not model.members or model.correction is None:
        parser.error(f"{options.model} is no ensemble with a neighbour correction")
    store = cached_store(frame, model.graph_config, options.cache)
    found = predict_store(model, store, range(len(frame)))
    apart = np.concatenate([at_mean(model, store[i]).gaps_ev.std(0).numpy() for i in range(len(frame))])
    near = np.square(found.epistemic_std_ev) - np.square(DISAGREEMENT * apart)  # the distance alone
    far = predictor.novelty.score(found.features, frame.atomic_numbers.tolist())
    gap_ev = frame[options.target].to_numpy(dtype=np.float64)
    rows = []
    for share in SHARES:
        std = np.sqrt(np.maximum(near, 0.0) + np.square(share * apart))
        shared = replace(found, epistemic_std_ev=std).widened(widening(far, model.config.substitutes))
        rows.append([share, *score(shared, gap_ev, far.percentile)])
    print_table(["share", "Spearman", "CRPS, eV", "interval score, eV", f"{LEVEL:.0%} width, eV"], rows)


if __name__ == "__main__":
    main()
