"""What each method costs and what it gives for that, from the tables of finished comparisons.

It reads the folders ``claims-*`` of a folder of tables. It writes ``summary.csv`` into each of them,
``claims-price/price.csv`` beside them, and a picture::

    python -m benchmarks.claims.price docs/tables --picture docs/claims-price.svg
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.claims.arms import ENSEMBLE
from benchmarks.claims.estimates import CLOSED_FORM
from benchmarks.claims.methods import METHODS
from benchmarks.claims.tables import write_csv
from benchmarks.measure import parser_of
from mofgap.report.figure import GRID, NotebookFigure, add_legend, line_style, save

COMPARISONS = {
    "language": "language, encoder",
    "decoder": "language, decoder",
    "vision": "images",
    "mofs-block": "MOFs, inside the transformer",
    "mofs": "MOFs, after the pooling",
}
"""Ends of the folders' names, and what they are about."""
N_OUTPUTS = {"circuit_logic": 2, "syllogism": 2, "knights_knaves": 4, "digits": 5, "emoji": 7}
"""Outputs of a network that the closed form goes backward from; of gaps both."""
KEYS = ["task", "way", "n_samples"]
BY_SPREAD, BY_TOTAL = ("auroc_errors_epistemic", "spearman_epistemic"), ("auroc_errors", "spearman")
DRAWN = {
    "ensemble": "ensemble of 2 to 5 LoRA models",
    "balora": "BaLoRA, draws of the weights",
    "balora-closed-form": "BaLoRA, closed form",
    "balora-rows": "BaLoRA, draws of the rows",
    "blob": "BLoB-like",
    "dropout": "MC dropout",
    "laplace": "last-layer Laplace",
    "lora": "one LoRA model",
}


def method_of(way: str) -> str:
    """The method whose trainings a way to predict needs."""
    known = [name for name in METHODS if way == name or way.startswith(f"{name}-")]
    return max(known, key=len) if known else "lora"


def passes(way: str, n_samples: int, task: str) -> int:
    """Forward passes of a prediction; a backward pass counts as two."""
    if n_samples != CLOSED_FORM:
        return n_samples
    if way.endswith(("closed-form", "scaled", "held-out", "near")):
        return 1 + 2 * N_OUTPUTS.get(task, 2)
    return 3 if way == "balora-distance" else 1


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of each task, way to predict and number of samples side by side.

    Scores of test inputs come first, then those of shifted inputs against test inputs, the mean over sets.
    Numbers of samples that only some trainings have are left out.

    Args:
        scores: A table ``scores.csv``.
    """
    most = scores.groupby(["way", "split"]).n_trainings.transform("max")
    of_shift = scores.score.str.startswith("auroc_shifted")
    found = scores[(scores.n_trainings == most) & ((scores.split == "test") | of_shift)]
    return found.pivot_table(index=KEYS, columns="score", values="mean")[list(found.score.unique())]


def priced(scores: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """A row for each way to predict and number of samples, the mean over tasks.

    Args:
        scores: A table ``scores.csv``.
        cost: The table ``cost.csv`` of the same comparison.
    """
    wide = summary(scores).dropna(subset="nll")
    seconds = cost.set_index(["task", "method"]).cpu_seconds
    relative = seconds / seconds.xs("lora", level="method").reindex(seconds.index, level="task")
    found = pd.DataFrame(index=wide.index)
    found["trainings"] = [n if way == ENSEMBLE else 1 for _, way, n in wide.index]
    found["training_cost"] = [relative[task, method_of(way)] for task, way, _ in wide.index]
    found["training_cost"] *= found.trainings
    found["passes"] = [passes(way, n, task) for task, way, n in wide.index]
    for name, either in {"errors_by_spread": BY_SPREAD, "errors_by_total": BY_TOTAL, "nll": ("nll",)}.items():
        found[name] = wide[[score for score in either if score in wide]].iloc[:, 0]
    return found.groupby(KEYS[1:]).mean().reset_index()


def drawn(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Finding of errors, and likelihood, against the passes of a prediction; up is better.

    Of one LoRA model the whole uncertainty is ranked, since it has no spread.

    Args:
        tables: What `priced` gives, by the name of the comparison.
    """
    figure = NotebookFigure(figsize=(3.3 * len(tables), 6), layout="constrained")
    for place, (name, found) in enumerate(tables.items()):
        errors, nll = (figure.add_subplot(2, len(tables), 1 + place + row * len(tables)) for row in (0, 1))
        for number, (way, words) in enumerate(DRAWN.items()):
            own = found[found.way == way].sort_values("passes")
            style = line_style(number) | {"marker": "o" if len(own) > 1 else "D", "markersize": 4}
            errors.plot(own.passes, own.errors_by_total if way == "lora" else own.errors_by_spread, **style)
            nll.plot(own.passes, own.nll, label=words, **style)
        errors.set_title(name, fontsize=10)
        nll.set_xlabel("passes of a prediction")
        nll.invert_yaxis()
        for axes in (errors, nll):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda passes, _: f"{passes:g}")
            axes.grid(color=GRID)
        if place == 0:
            errors.set_ylabel("errors found by the spread")
            nll.set_ylabel("NLL, nats")
            add_legend(nll)
    return figure


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def main() -> None:
    """Write the table and the picture."""
    parser = parser_of(__doc__)
    parser.add_argument("folder", type=Path, help="of the tables, such as docs/tables")
    parser.add_argument("--picture", type=Path, help="file to draw, .svg or .png")
    options = parser.parse_args()
    tables = {}
    for end, words in COMPARISONS.items():
        folder = options.folder / f"claims-{end}"
        if folder.exists():
            scores, cost = (pd.read_csv(folder / f"{name}.csv") for name in ("scores", "cost"))
            write_csv(folder / "summary.csv", _rows(summary(scores).reset_index()))
            tables[words] = priced(scores, cost)
    target = options.folder / "claims-price"
    target.mkdir(exist_ok=True)
    write_csv(
        target / "price.csv",
        [{"data": words} | row for words, found in tables.items() for row in _rows(found)],
    )
    if options.picture:
        save(drawn(tables), options.picture)


if __name__ == "__main__":
    main()
