"""The stream: inputs in, rows out, in order, with bounded memory and any number of processes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from mofgap.crystals.crystal import Crystal
from mofgap.gap.predictor import GapPredictor
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.journal import Finished, Journal
from mofgap.screening.pool import ordered_map
from mofgap.screening.prediction import FAILED, predict_readings
from mofgap.screening.reading import Reading, Source, read
from mofgap.screening.row import Row

Task = tuple[Source, str]
"""An input, and the sha256 of the bytes that were done before."""


def stream_rows(
    sources: Iterable[Source],
    predictor: GapPredictor,
    config: ScreeningConfig,
    journal: Journal | None = None,
) -> Generator[tuple[Row, ...]]:
    """The rows of each input, in order; none has a rank yet.

    On a CPU every worker reads and predicts; on a GPU workers read, and this process predicts in batches.

    Args:
        sources: The inputs, read only a little ahead.
        predictor: The model, sent to each worker once.
        config: How to read and predict, and in how many processes; 1 computes in this one.
        journal: Gives the rows of inputs that were done before, and records the others.
    """
    finished = journal.finished if journal else {}
    tasks = ((source, _expected(source, finished)) for source in sources)
    if predictor.device == "cpu":
        results = ordered_map(_Screener(predictor, config), tasks, config.workers)
    else:
        reader = partial(_read, config=config)
        results = _in_batches(ordered_map(reader, tasks, config.workers), predictor, config)
    for reading, rows in results:
        if reading.unchanged:
            yield finished[reading.source].rows
            continue
        # A name that leads nowhere today may lead somewhere when the run goes on, and memory may do then.
        if journal and reading.sha256 and not any(row.reason.startswith(FAILED) for row in rows):
            journal.add(reading.source, Finished(reading.sha256, rows))
        yield rows


Result = tuple[Reading, tuple[Row, ...]]


@dataclass(frozen=True, eq=False)
class _Screener:
    """Reads and predicts one input."""

    predictor: GapPredictor
    config: ScreeningConfig

    def __call__(self, task: Task) -> Result:
        reading = _read(task, config=self.config)
        rows = predict_readings([reading], self.predictor, self.config)[0]
        return replace(reading, entries=()), rows


def _read(task: Task, *, config: ScreeningConfig) -> Reading:
    source, expected = task
    return read(source, expected, config)


def _in_batches(
    readings: Iterable[Reading], predictor: GapPredictor, config: ScreeningConfig
) -> Iterator[Result]:
    """Predict inputs together, a batch of atoms at a time."""
    batch: list[Reading] = []

    def results() -> Iterator[Result]:
        yield from zip(batch, predict_readings(batch, predictor, config), strict=True)
        batch.clear()

    for reading in readings:
        if batch and sum(each.n_atoms for each in batch) + reading.n_atoms > config.batch_atoms:
            yield from results()
        batch.append(reading)
    yield from results()


def _expected(source: Source, finished: dict[str, Finished]) -> str:
    known = None if isinstance(source, Crystal) else finished.get(source.source)
    return known.sha256 if known else ""
