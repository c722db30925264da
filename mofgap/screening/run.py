"""One screening, from the names of its inputs to the file with its table, or with a share of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mofgap.crystals.inputs import PassedOver, expand_inputs
from mofgap.gap.folder import find_model
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.differences import differences
from mofgap.screening.journal import Journal, JournalError, journal_path
from mofgap.screening.listing import is_listing, read_listing
from mofgap.screening.origin import MODEL_DIGEST, record, write_origin
from mofgap.screening.rank import rank_rows
from mofgap.screening.reading import Source
from mofgap.screening.row import Row
from mofgap.screening.screen import stream_rows
from mofgap.screening.shard import DEVICE, SECOND_LEVEL_MODEL, Shard, ShardError, ShardFile
from mofgap.screening.table import PAGE, WriteTable, write_table
from mofgap.shipped import CONFIG
from mofgap.version import installed_version
from mofgap.whole_file import sha256_of

InputRows = tuple[Row, ...]
Watch = Callable[[Iterator[InputRows], Journal | None], Iterable[InputRows]]


class ScreeningError(ValueError):
    """A screening that cannot start, and why."""


@dataclass(eq=False)
class ScreeningRun:
    """A screening, from its inputs to its output file.

    Attributes:
        inputs: What to screen, as `expand_inputs` takes it.
        config: How structures are read, predicted and ranked.
        shard: The share of the inputs that is taken; None takes all.
        target: The file of the table, or of the share; None writes none.
        passed_over: Files of folders and archives that are not read, as far as `rows` has come.
        journal: The rows that `rows` kept, locked until the target is written; None before, and without one.
    """

    inputs: tuple[str, ...]
    config: ScreeningConfig
    shard: Shard | None
    target: Path | None
    passed_over: PassedOver = field(default_factory=PassedOver)
    journal: Journal | None = field(default=None, init=False)

    @cached_property
    def predictor(self) -> GapPredictor:
        """The models, loaded.

        Raises:
            ScreeningError: If a model was calibrated on too few structures for the coverage.
            ValueError: If a model does not exist, cannot be loaded, or lacks the chosen spread, or the device
                is not available.
            OSError: If a file of a model cannot be read.
        """
        name, second_level = self.config.models
        predictor = load_model(name, self.config.device, second_level)
        predictor.check_spread(self.config.uncertainty)
        for each in predictor.levels:
            try:
                each.calibration.interval([], [], self.config.coverage, [])
            except ValueError as error:
                raise ScreeningError(f"{each.about.name}: {error}") from error
        return predictor

    @cached_property
    def _made_with(self) -> dict[str, Any]:
        """The code and the models. The config of a model holds the sha256 of all its other files."""
        models = zip((MODEL_DIGEST, SECOND_LEVEL_MODEL), self.config.models, strict=True)
        configs = {key: find_model(name) / CONFIG for key, name in models if name is not None}
        digests = {key: sha256_of(path) for key, path in configs.items()}
        return {"mofgap": installed_version(), **digests}

    @cached_property
    def _header(self) -> dict[str, Any]:
        """All that decides the numbers."""
        return {**self._made_with, DEVICE: self.predictor.device, **self.config.row_settings}

    def check_complete(self, lines: Iterable[str] = ()) -> None:
        """Refuse a share that is complete, but of another screening. It may be of another device.

        Args:
            lines: As for `rows`.

        Raises:
            ScreeningError: If the names lead to a listing together with other inputs.
            ShardError: If the share has other settings or names of inputs, or is damaged. It is also raised
                if the listing is damaged, or was made for another number of shards.
            OSError: If the share or the listing cannot be read.
        """
        assert self.shard is not None and self.target is not None
        found = ShardFile.open(self.target)
        deque(self._sources(lines), maxlen=0)  # the shard counts them
        then = {name: value for name, value in found.header.items() if name != DEVICE} | found.whole
        if was := differences(then, {**self._made_with, **self.config.table_settings, **self.shard.whole}):
            words = f"{self.target} is complete, but of another screening ({was})"
            raise ShardError(f"{words}; give the same settings and inputs, or --force to make it again")

    def rows(
        self, resume: bool, lines: Iterable[str] = (), watch: Watch = lambda rows, _: rows
    ) -> list[InputRows]:
        """Screen; with a target, finished rows are kept in a journal next to it until it is written.

        Args:
            resume: Whether to go on with what was kept.
            lines: Lines of standard input, for the input ``-``.
            watch: Passes the rows of each input on as they come; it also gets the journal, if there is one.

        Returns:
            The rows of each input, in order, unranked.

        Raises:
            ScreeningError: If the names lead to no inputs, or to a listing while no shard is chosen.
            ShardError: If the listing is damaged, or was made for another number of shards.
            JournalError: If the journal belongs to another run, or cannot be opened.
            RuntimeError: If no worker process can start.
            concurrent.futures.process.BrokenProcessPool: If a worker process died, usually because memory ran
                out.
            OSError: If a finished row cannot be written to the journal.
        """
        sources = self._sources(lines)
        journal = self.journal = None if self.target is None else self._journal(self.target, resume)
        try:
            stream = stream_rows(sources, self.predictor, self.config, journal)
            with closing(stream):
                found = list(watch(stream, journal))
        except BaseException as error:
            if journal is not None:
                if isinstance(error, KeyboardInterrupt):
                    journal.stop()
                journal.close()
            raise
        if not (self.shard.n_inputs if self.shard else any(found)):
            self.remove_journal()
            raise ScreeningError("no inputs: the list, archive or standard input is empty")
        return found

    def remove_journal(self) -> None:
        """Delete the rows that were kept, once they are not needed any more."""
        if self.journal is not None:
            self.journal.remove()

    def _sources(self, lines: Iterable[str]) -> Iterable[Source]:
        """The inputs, or those of the shard, which a listing may already hold."""
        listings = [name for name in self.inputs if is_listing(name)]
        if not listings:
            sources = expand_inputs(self.inputs, lines, self.passed_over)
            return sources if self.shard is None else self.shard.take(sources)
        if self.shard is None or len(self.inputs) > 1:
            raise ScreeningError(f"{listings[0]} lists the inputs of shards: give it alone, with --shard I/N")
        return read_listing(Path(listings[0]), self.shard)

    def n_inputs(self) -> int:
        """Number of inputs to screen; counting lists them once more."""
        if self.shard is None:
            return sum(1 for _ in expand_inputs(self.inputs))
        shard = Shard(self.shard.index, self.shard.count)
        return sum(1 for _ in replace(self, shard=shard, passed_over=PassedOver())._sources(()))

    def _journal(self, target: Path, resume: bool) -> Journal:
        path, header = journal_path(target), self._header
        try:
            return Journal(path, header, resume=resume)
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror}") from error

    def table(self, inputs: Iterable[InputRows]) -> list[Row]:
        """The ranked table of the rows of each input."""
        return rank_rows((row for rows in inputs for row in rows), **self.config.rank_settings)

    def write(self, inputs: Sequence[InputRows], write: WriteTable = write_table, command: str = "") -> None:
        """Write the target, if there is one: the table, or the share and what decides its ranks.

        Args:
            inputs: The rows of each input.
            write: What writes a table, see `write_table`.
            command: The command line, which is recorded in a file next to the table; empty records nothing.

        Raises:
            ValueError: If the extension of the target is unknown, or its format cannot hold so many rows.
            OSError: If the target cannot be written.
        """
        if self.target is None:
            return
        settings = {**self._header, **self.config.rank_settings}
        if self.shard is None:
            table = self.table(inputs)
            write(self.target, table, self.config.columns)
            if command and self.target.suffix.lower() != PAGE:
                write_origin(self.target, record(command, len(table), settings))
        else:
            self.shard.write(self.target, settings, inputs)
        self.remove_journal()
