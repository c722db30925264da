"""How far predictions are from gaps that were measured, and what a map from the one to the other leaves.

The map is a constant or a straight line from the HSE06 prediction to the measured gap. Each row is predicted
by the map that is fitted to the others. A map is worth shipping from `ENOUGH` rows with a structure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measure import add_table, one_thread, parser_of, print_table, read_rows
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import table_crystals
from mofgap.crystals.prepare.steps import DEFAULT_PREPARATION
from mofgap.crystals.single import crystal_of
from mofgap.gap.predictor import load_model
from mofgap.screening.levels import MODELS
from mofgap.shipped import shipped_folder
from mofgap.uncertainty import metrics
from mofgap.uncertainty.columns import Floats

Map = Callable[[Floats], Floats]

MEASURED = Path(__file__).parents[1] / "data" / "measured_gaps.csv"
ENOUGH = 12
LEVEL = 0.9


def constant(gap_ev: Floats, measured_ev: Floats) -> Map:
    """The map that adds the mean difference, eV."""
    shift = float(np.mean(measured_ev - gap_ev))
    return lambda gap: gap + shift


def line(gap_ev: Floats, measured_ev: Floats) -> Map:
    """The straight line of least squares."""
    slope, intercept = np.polyfit(gap_ev, measured_ev, 1)
    return lambda gap: intercept + slope * gap


def leave_one_out(fit: Callable[[Floats, Floats], Map], gap_ev: Floats, measured_ev: Floats) -> Floats:
    """What the map that is fitted to all other rows says of each row, eV."""
    rows = np.arange(len(gap_ev))
    return np.array([fit(gap_ev[rows != i], measured_ev[rows != i])(gap_ev[i]) for i in rows])


def with_structures(measured: pd.DataFrame, table: Path | None) -> Iterator[tuple[int, Crystal]]:
    """Yield position and structure of the rows that have one: an example CIF, or a row of the table."""
    for place, name in enumerate(measured.structure):
        if name.endswith(".cif"):
            yield place, crystal_of(shipped_folder("examples") / name, preparation=DEFAULT_PREPARATION)
    if table is not None:
        rows = read_rows(table, "pbe_gap_ev", ())
        places = {name: place for place, name in enumerate(measured.structure)}
        for crystal in table_crystals(rows[rows.structure_id.isin(places)]):
            yield places[crystal.structure_id], crystal


def main() -> None:
    """Print each measured gap beside the predictions, then the errors."""
    parser = parser_of(__doc__)
    parser.add_argument("--measured", type=Path, default=MEASURED, help="CSV of measured gaps")
    add_table(parser, None, required=False)
    options = parser.parse_args()
    one_thread()
    every = pd.read_csv(options.measured, keep_default_na=False)
    places, crystals = zip(*sorted(with_structures(every, options.table), key=lambda x: x[0]), strict=True)
    rows = every.iloc[list(places)]
    print(f"{len(every)} measured gaps, {len(rows)} of them with a structure\n")

    measured = rows.gap_ev.to_numpy(float)
    gaps: dict[str, Floats] = {}
    header = ["", "measured, eV"]
    columns: list[list[object]] = [rows["name"].tolist(), measured.tolist()]
    scores: list[list[object]] = []
    for level in ("HSE06", "PBE"):
        predictor = load_model(MODELS[level.lower()], device="cpu")
        part = predictor.estimate(crystals)
        low, high = predictor.calibration.interval(part.gap_ev, part.gap_std_ev, LEVEL, part.novelty)
        gaps[level] = part.gap_ev
        header += [f"{level}, eV", f"{LEVEL:.0%} interval"]
        columns += [part.gap_ev.tolist(), [f"{a:.2f}-{b:.2f}" for a, b in zip(low, high, strict=True)]]
        bias = float(np.mean(part.gap_ev - measured))
        scores.append([level, bias, *_errors(measured, part.gap_ev), metrics.coverage(measured, low, high)])
    print_table(header, list(zip(*columns, strict=True)))
    print()
    # A line through two points fits them exactly, so that a line takes four rows.
    for name, fit, least in (("constant", constant, 2), ("line", line, 4)):
        if len(rows) >= least:
            errors = _errors(measured, leave_one_out(fit, gaps["HSE06"], measured))
            scores.append([f"HSE06 and a {name}, leave-one-out", "", *errors, ""])
    print_table(["", "mean error, eV", "MAE, eV", "RMSE, eV", f"{LEVEL:.0%} coverage"], scores)
    if len(rows) < ENOUGH:
        print(f"\nno map: it takes {ENOUGH} measured gaps with a structure, there are {len(rows)}")


def _errors(measured: Floats, said: Floats) -> tuple[float, float]:
    return metrics.mae(measured, said), metrics.rmse(measured, said)


if __name__ == "__main__":
    main()
