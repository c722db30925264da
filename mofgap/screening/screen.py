"""The stream: inputs in, rows out, in order, with bounded memory and any number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.item import InputItem
from mofgap.crystals.reasons import StructureError
from mofgap.gap.predictor import GapPredictor
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.journal import Finished, Journal
from mofgap.screening.pool import IsolatedProcess, ordered_map
from mofgap.screening.prediction import predict_readings
from mofgap.screening.reading import PROCESS_DIED, Reading, Source, read
from mofgap.screening.row import FAILED, Row, failed_row

Task = tuple[Source, str]
"""An input, and the sha256 of the bytes that were done before."""
MOST_WAITING = 1000
"""Inputs that wait for a batch of the GPU, at most."""


def stream_rows(
    sources: Iterable[Source],
    predictor: GapPredictor,
    config: ScreeningConfig,
    journal: Journal | None = None,
) -> Generator[tuple[Row, ...]]:
    """The rows of each input, in order; none has a rank yet.

    On a CPU every worker reads and predicts; on a GPU workers read, and this process predicts in batches.
    An input that ends its process fails, and the others go on.

    Args:
        sources: The inputs, read only a little ahead.
        predictor: The model, sent to each worker once.
        config: How to read and predict, and in how many processes; 1 computes in this one.
        journal: Gives the rows of inputs that were done before, and records the others.
    """
    finished = journal.finished if journal else {}
    tasks = ((source, _expected(source, finished)) for source in sources)
    if predictor.device == "cpu":
        screener = _Screener(predictor, config)
        if config.workers == 1 and journal:
            results = _in_this_process(screener, tasks, journal)
        else:
            results = ordered_map(screener, tasks, config.workers, screener.lost)
    else:
        reader = partial(_read, config=config)
        results = _in_batches(ordered_map(reader, tasks, config.workers, _lost), predictor, config)
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

    def lost(self, task: Task) -> Result:
        """The result for an input that ended its process."""
        reading = _lost(task)
        return reading, tuple(
            failed_row(entry) for entry in reading.entries if isinstance(entry, ReadFailure)
        )


def _in_this_process(screener: _Screener, tasks: Iterable[Task], journal: Journal) -> Iterator[Result]:
    """Screen in this process, but the input that may have ended an earlier run in a separate one."""
    suspect = journal.begun
    with IsolatedProcess(screener, screener.lost) as isolated:
        for source, expected in tasks:
            if not expected:
                journal.begin(source.source)
            yield (isolated if source.source == suspect else screener)((source, expected))


def _lost(task: Task) -> Reading:
    """The reading of an input that ended its process, with the hash by which a resumed run skips it."""
    source, digest = task[0], ""
    if isinstance(source, InputItem):
        with suppress(StructureError):
            digest = hashlib.sha256(source.read()).hexdigest()
    return Reading(source.source, digest, (ReadFailure(source.source, source.structure_id, PROCESS_DIED),))


def _read(task: Task, *, config: ScreeningConfig) -> Reading:
    source, expected = task
    return read(source, expected, config)


def _in_batches(
    readings: Iterable[Reading], predictor: GapPredictor, config: ScreeningConfig
) -> Iterator[Result]:
    """Predict inputs together, a batch of atoms at a time."""
    batch: list[Reading] = []
    n_atoms = 0
    for reading in readings:
        # Inputs without atoms, done before or failed, never fill a batch.
        is_full = n_atoms + reading.n_atoms > config.batch_atoms or len(batch) == MOST_WAITING
        if batch and (is_full or not n_atoms):
            yield from zip(batch, predict_readings(batch, predictor, config), strict=True)
            batch, n_atoms = [], 0
        batch.append(reading)
        n_atoms += reading.n_atoms
    yield from zip(batch, predict_readings(batch, predictor, config), strict=True)


def _expected(source: Source, finished: dict[str, Finished]) -> str:
    known = None if isinstance(source, Crystal) else finished.get(source.source)
    return known.sha256 if known else ""
