"""Train what is missing of a comparison, judge it, and write its tables.

A run that was stopped goes on where it was::

    python -m benchmarks.claims benchmarks/claims/language.yaml -o runs/claims-language
"""

from __future__ import annotations

import importlib
from pathlib import Path

import torch

from benchmarks.claims.arms import NEIGHBOURS, collected
from benchmarks.claims.cells import Cells
from benchmarks.claims.config import ClaimsConfig
from benchmarks.claims.tables import cost, scores, tried, write_csv
from benchmarks.claims.verdicts import Judge
from benchmarks.measure import parser_of
from mofgap.configuration import load


def main() -> None:
    """Train, judge, write."""
    parser = parser_of(__doc__)
    parser.add_argument("config", type=Path, help="settings, such as benchmarks/claims/language.yaml")
    parser.add_argument("-o", "--folder", type=Path, help="of the results; runs/NAME by default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting")
    parser.add_argument("--task", action="append", help="train these tasks alone, and judge nothing")
    parser.add_argument("--judge", action="store_true", help="train nothing; judge what is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = load(ClaimsConfig, options.config, options.set)
    cells = Cells(options.folder or Path("runs") / config.name, config)
    if options.judge and not cells.finished:
        parser.error(f"{cells.folder} has no finished training to judge")
    cells.check()
    if options.judge:
        judge(cells)
        return
    modality = importlib.import_module(f"benchmarks.claims.{config.modality}")
    backbones = modality.backbones(config)
    for task in modality.tasks(config):
        if options.task is None or task.name in options.task:
            for path in cells.train(task, backbones[task.backbone]):
                print(path, flush=True)
    if options.task is None:
        judge(cells)


def judge(cells: Cells) -> None:
    """Write the tables of a finished comparison, and print its verdicts."""
    made = cells.folder / "tables"
    for suffix, folder in (("", made), (NEIGHBOURS, made / "neighbours")):
        arms = [collected(own, members=cells.config.members, suffix=suffix) for own in cells.finished]
        if all(own.ways for own in arms):
            found = Judge(arms, cells.config.judgement)
            write_csv(folder / "verdicts.csv", found.verdicts())
            write_csv(folder / "scores.csv", scores(arms))
            if not suffix:
                write_csv(folder / "against-each-other.csv", found.pairs())
                write_csv(folder / "tries.csv", tried(cells.folder / "tries"))
                write_csv(folder / "cost.csv", cost(arms))
    print((made / "verdicts.csv").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
