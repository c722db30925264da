"""Every metric of a model on a split of the QMOF table, and in every part its error and coverage.

Published predictions are compared where they lie beside the table. ``--groups`` scores numbers of novelty
groups for the intervals instead, by cross-validation on the split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.measure import at_most, loaded, predicted, predicting_parser, print_table, read_rows
from mofgap.crystals.bonds import IS_METAL
from mofgap.crystals.elements import symbol_of
from mofgap.datasets.groups import group_of
from mofgap.gap.posterior import Posterior
from mofgap.gap.predictor import GapPredictor
from mofgap.training.calibration import evaluate
from mofgap.training.labels import are_unbalanced
from mofgap.uncertainty.bootstrap import paired_bootstrap
from mofgap.uncertainty.calibrate import fit_calibration
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.groups import quantile_edges
from mofgap.uncertainty.metrics import interval_score, mae

Mask = NDArray[np.bool_]

BASELINES = "qmof_test_baselines.csv"
"""Published predictions of the test split, beside the table: identifier, label, a column per method."""

LEVEL = 0.9
BAND = 0.95
"""Central part of the binomial distribution that the hits of a part should lie in."""

LEAST_ROWS = 40
"""Parts of fewer rows say nothing."""

N_PARTS, N_DEALS, N_FOLDS = 4, 6, 5


def compare(frame: pd.DataFrame, target: str, predicted: Floats, baselines: Path) -> None:
    """Print each published method's error on the rows it has, and the difference of ours to it."""
    published = pd.read_csv(baselines).rename(columns={"qmof_id": "structure_id"})
    if target not in published.columns:
        return  # they are of another level of theory
    methods = [name for name in published.columns if name not in ("structure_id", target)]
    ours = frame[["structure_id", target]].assign(ours=predicted)
    joined = ours.merge(published.drop(columns=target), on="structure_id")
    rows: list[list[object]] = []
    for name in methods:
        both = joined.dropna(subset=[name])
        true, a, b = (both[column].to_numpy(dtype=np.float64) for column in (target, "ours", name))
        found = paired_bootstrap(mae, true, (a,), (b,))
        interval = f"{found.lo:+.4f} to {found.hi:+.4f}"
        rows.append([name.removesuffix("_ev"), len(both), mae(true, b), mae(true, a), found.value, interval])
    print()
    print_table(["", "rows", "MAE, eV", "ours", "ours - theirs", "95 % interval"], rows)


def parts(
    frame: pd.DataFrame, table: pd.DataFrame, predictor: GapPredictor, novelty: Floats
) -> Iterator[tuple[str, Mask]]:
    """Parts of the rows by name: relatives in training, metal, number of atoms, novelty."""
    yield "all", np.ones(len(frame), dtype=bool)
    if "group" in frame:
        learnt = table.structure_id.isin(predictor.novelty.ids)
        relative = group_of(frame).isin(set(group_of(table)[learnt])).to_numpy()
        yield "a relative in training", relative
        yield "no relative in training", ~relative
    elements = [set(map(int, numbers)) for numbers in frame.atomic_numbers]
    for z in np.flatnonzero(IS_METAL):
        yield f"with {symbol_of(z)}", np.array([z in each for each in elements])
    n_atoms = frame.atomic_numbers.map(len).to_numpy()
    edges = np.quantile(n_atoms, np.arange(1, N_PARTS) / N_PARTS)
    part = np.searchsorted(edges, n_atoms)
    for i in range(N_PARTS):
        held = n_atoms[part == i]
        if not held.size:
            continue
        yield f"{held.min()} to {held.max()} atoms", part == i
    group = predictor.calibration.group(novelty, len(frame))
    for i in np.unique(group):
        held_novelty = novelty[group == i]
        yield f"novelty {held_novelty.min():.2f} to {held_novelty.max():.2f}", group == i


def print_coverage(named: Iterator[tuple[str, Mask]], inside: Mask, width: Floats, error: Floats) -> None:
    """Print coverage and mean width of the intervals, and the MAE, of each part that is large enough."""
    rows: list[list[object]] = []
    for name, mask in named:
        n = int(mask.sum())
        if n < LEAST_ROWS:
            continue
        low, high = stats.binom.interval(BAND, n, LEVEL)
        held = low <= inside[mask].sum() <= high
        band = f"{low / n:.3f} to {high / n:.3f}"
        means = [float(each[mask].mean()) for each in (inside, width, error)]
        rows.append([name, n, means[0], band, "" if held else "outside", *means[1:]])
    header = [f"{LEVEL:.0%} intervals", "rows", "coverage", f"{BAND:.0%} band", "", "width, eV", "MAE, eV"]
    print_table(header, rows)
    within = sum(row[4] == "" for row in rows)
    print(f"{within} of {len(rows)} parts lie within their band; chance alone would leave {BAND:.0%} there")


def score_groups(found: Posterior, gap_ev: Floats, novelty: Floats, numbers: Sequence[int]) -> None:
    """Print how 90 % intervals do with numbers of novelty groups, cross-validated several times."""
    gap, epistemic = np.maximum(found.gap_ev, 0.0), np.nan_to_num(found.epistemic_std_ev)
    aleatoric = found.aleatoric_std_ev
    tenth = np.searchsorted(np.quantile(novelty, np.arange(1, 10) / 10), novelty)
    rows: list[list[object]] = []
    for n_groups in numbers:
        scores, hits = [], np.zeros(len(gap))
        for deal in range(N_DEALS):
            fold = np.random.default_rng(deal).permutation(len(gap)) % N_FOLDS
            lo, hi = np.empty_like(gap), np.empty_like(gap)
            for k in range(N_FOLDS):
                rest, held = fold != k, fold == k
                edges = quantile_edges(novelty[rest], n_groups, 1)
                fitted = fit_calibration(
                    gap_ev[rest],
                    gap[rest],
                    epistemic[rest],
                    aleatoric[rest],
                    [str(i) for i in np.flatnonzero(rest)],
                    novelty=novelty[rest] if edges else None,
                    novelty_edges=edges,
                )
                std = fitted.std(epistemic[held], aleatoric[held])
                lo[held], hi[held] = fitted.interval(gap[held], std, LEVEL, novelty[held])
            scores.append(interval_score(gap_ev, lo, hi, LEVEL))
            hits += (lo <= gap_ev) & (gap_ev <= hi)
        by_tenth = [float(hits[tenth == i].mean()) / N_DEALS for i in range(10)]
        error = float(np.sqrt(np.mean((np.array(by_tenth) - LEVEL) ** 2)))
        rows.append([n_groups, float(np.mean(scores)), float(hits.mean()) / N_DEALS, error])
    header = ["groups", "interval score, eV", "coverage", "rms error of coverage by tenths of novelty"]
    print_table(header, rows)


def main() -> None:
    """Print the metrics, the coverage of every part, then the comparison."""
    parser = predicting_parser(__doc__)
    parser.add_argument("--split", default="test", help="rows to predict")
    parser.add_argument("--limit", type=int, help="a quick look: so many rows, chosen at random")
    parser.add_argument("--groups", nargs="+", type=int, help="score these numbers of novelty groups instead")
    options = parser.parse_args()
    predictor = loaded(options.model)
    table = read_rows(options.table, options.target, [options.split])
    frame = at_most(table[table.split == options.split], options.limit)
    found, said = predicted(predictor, frame, options.cache)
    gap_ev = frame[options.target].to_numpy(dtype=np.float64)
    learnt = len(set(predictor.novelty.ids) & set(frame.structure_id))
    print(f"{options.model} on {len(frame)} rows of split {options.split}, {learnt} of them trained on")
    if options.groups:
        score_groups(found, gap_ev, said.novelty, options.groups)
        return
    scores = evaluate(found, predictor.calibration, gap_ev, said.novelty, are_unbalanced(frame))
    print_table(["metric", "value"], [[name, value] for name, value in scores.items()])
    print()
    lo, hi = predictor.calibration.interval(said.gap_ev, said.gap_std_ev, LEVEL, said.novelty)
    inside, error = (lo <= gap_ev) & (gap_ev <= hi), np.abs(said.gap_ev - gap_ev)
    print_coverage(parts(frame, table, predictor, said.novelty), inside, hi - lo, error)
    baselines = options.table.parent / BASELINES
    if options.split == "test" and baselines.exists():
        compare(frame, options.target, said.gap_ev, baselines)


if __name__ == "__main__":
    main()
