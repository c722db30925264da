"""One run of ``mofgap screen``, from the checks of its options to its exit code."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from mofgap.cli.exits import ALL_READ, INTERRUPTED, NOTHING_DONE, SOME_FAILED, WRONG_USAGE, fail
from mofgap.cli.progress import tracked
from mofgap.screening.levels import Level, Models, is_pbe, models_of
from mofgap.screening.rank import Novel, RankBy, is_novel, rank_rows, ranking
from mofgap.screening.row import Row, column_names
from mofgap.screening.table import format_of, tab_separated, write_table

if TYPE_CHECKING:
    from mofgap.crystals.disorder import Disorder
    from mofgap.gap.posterior import Uncertainty
    from mofgap.gap.predictor import GapPredictor
    from mofgap.screening.journal import Journal
    from mofgap.screening.reading import Source
    from mofgap.screening.settings import Settings
    from mofgap.screening.shard import Shard

N_FAILURES_SHOWN = 10
PBE_CAVEAT = (
    "mofgap: gaps are those of PBE, which lie below measured ones (HSE06 gives 1.5 eV more on average over "
    "QMOF; --level hse06 predicts it), more so with open-shell 3d metals: rank by them, and do not quote "
    "them as measured"
)
_IN_SEQUENCE = (".gz", ".tgz", ".xz", ".txz", ".bz2", ".tbz2")


@dataclass(frozen=True)
class Run:
    """The options of ``mofgap screen``, see its help."""

    inputs: tuple[str, ...]
    window: tuple[float, float] | None
    rank_by: RankBy | None
    top: int | None
    output: Path | None
    model: str | None
    uncertainty: Uncertainty
    samples: int
    seed: int
    max_atoms: int
    disorder: Disorder
    coverage: float
    novel: Novel
    workers: int
    device: str
    batch_atoms: int
    shard: Shard | None
    resume: bool
    force: bool
    level: Level | None = None

    @property
    def target(self) -> Path | None:
        """The file to write: the table, or its share."""
        return self.output if self.output is None or self.shard is None else self.shard.path(self.output)

    def execute(self) -> None:
        """Screen, write and show the table, and end with an exit code.

        Raises:
            typer.Exit: Always.
        """
        self._check_output()
        try:
            order = ranking(self.rank_by, self.window)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--rank-by") from error
        # Workers inherit it: as many threads in each as there are cores would slow all of them down.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        settings = self._settings()
        models = self._models()
        predictor = self._predictor(*models)
        beside = predictor.beside is not None
        header = {**_digests(*models), "device": predictor.device, **asdict(settings)}
        journal = self._journal(header)
        started = time.perf_counter()
        inputs = self._screen(predictor, settings, journal)
        seconds = time.perf_counter() - started
        rows = [row for rows in inputs for row in rows]
        if not (self.shard.n_inputs if self.shard else rows):
            if journal is not None:
                journal.remove()
            fail("no inputs: the list or archive is empty", NOTHING_DONE)
        table = rank_rows(rows, order, self.top, self.novel)
        if self.shard is None:
            self._write(partial(write_table, rows=table, coverage=self.coverage, beside=beside), journal)
        else:
            header |= {"rank_by": order, "top": self.top, "novel": self.novel}
            header["level_of_theory"] = predictor.about.level_of_theory
            self._write(partial(self.shard.write, header=header, inputs=inputs), journal)
        self._show(table, column_names(self.coverage, beside))
        rate = f"{len(rows)} structures in {seconds:.1f} s ({len(rows) / max(seconds, 1e-9):.1f}/s)"
        say_counts(rows, rate)
        caveats(rows, predictor.about.level_of_theory, self.novel)
        raise typer.Exit(exit_code(rows))

    def _check_output(self) -> None:
        """Refuse before any work what would fail, or destroy something, after it."""
        if self.shard is not None and self.output is None:
            raise typer.BadParameter("needs -o, the table to make a share of", param_hint="--shard")
        if self.resume and self.output is None:
            raise typer.BadParameter("needs -o, the output of the run to go on with", param_hint="--resume")
        if self.resume and self.force:
            raise typer.BadParameter("contradicts --force", param_hint="--resume")
        if self.output is None or self.target is None:
            return
        check_output(self.output, self.target)
        if self.force:
            return
        journal = _journal_path(self.target)
        if journal.exists() and not self.resume:
            raise typer.BadParameter(
                f"{journal} holds an unfinished run: --resume goes on with it, --force starts again",
                param_hint="--output",
            )
        if self.target.exists() and not journal.exists():
            raise typer.BadParameter(
                f"{self.target} exists{' and is complete' if self.resume else ''}; --force overwrites it"
                + ("" if self.resume else " (--resume goes on with an unfinished run)"),
                param_hint="--output",
            )

    def _settings(self) -> Settings:
        from mofgap.screening.settings import Settings

        try:
            return Settings(
                window=self.window,
                uncertainty=self.uncertainty,
                samples=self.samples,
                seed=self.seed,
                batch_atoms=self.batch_atoms,
                max_atoms=self.max_atoms,
                disorder=self.disorder,
                coverage=self.coverage,
            )
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    def _models(self) -> Models:
        try:
            return models_of(self.level, self.model)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--level") from error

    def _predictor(self, name: str | Path, beside: str | Path | None) -> GapPredictor:
        from mofgap.gap.predictor import load_model

        try:
            predictor = load_model(name, self.device, beside)
        except (ValueError, OSError) as error:
            fail(str(error), NOTHING_DONE)
        for each in filter(None, (predictor, predictor.beside)):
            try:
                each.calibration.interval([], [], self.coverage, [])
            except ValueError as error:
                raise typer.BadParameter(f"{each.about.name}: {error}", param_hint="--coverage") from error
            if each.calibration.is_raw:
                text = "is not calibrated: its error bars are the network's own, without a guarantee"
                typer.echo(f"mofgap: {each.about.name} {text}", err=True)
        return predictor

    def _journal(self, header: dict[str, Any]) -> Journal | None:
        if self.target is None:
            return None
        from mofgap.screening.journal import Journal, JournalError

        try:
            journal = Journal(_journal_path(self.target), header, resume=self.resume)
        except JournalError as error:
            fail(str(error), WRONG_USAGE)
        except OSError as error:
            fail(f"cannot write {_journal_path(self.target)}: {error.strerror}", WRONG_USAGE)
        if self.resume:
            typer.echo(f"mofgap: {len(journal.finished)} inputs were done before", err=True)
        return journal

    def _screen(
        self, predictor: GapPredictor, settings: Settings, journal: Journal | None
    ) -> list[tuple[Row, ...]]:
        """The rows of each input."""
        from mofgap.crystals.inputs import expand_inputs
        from mofgap.screening.screen import stream_rows

        def count() -> int:
            n_inputs = sum(1 for _ in expand_inputs(self.inputs))
            return len(range(self.shard.index - 1, n_inputs, self.shard.count)) if self.shard else n_inputs

        # What is read in sequence would have to be read twice to be counted.
        countable = not any(map(_read_once, self.inputs))
        sources: Iterable[Source] = expand_inputs(self.inputs, _standard_input())
        if self.shard is not None:
            sources = self.shard.take(sources)
        try:
            with closing(stream_rows(sources, predictor, settings, self.workers, journal)) as stream:
                passing = tracked(stream, count if countable else None, Console(stderr=True))
                return list(passing)
        except KeyboardInterrupt:
            fail(f"interrupted; {self._what_is_left(journal)}", INTERRUPTED)
        except BrokenProcessPool:
            what = "a worker process died, for want of memory or killed; try fewer --workers"
            fail(f"{what}; {self._what_is_left(journal)}", NOTHING_DONE)
        except OSError as error:
            fail(f"{error}; {self._what_is_left(journal)}", NOTHING_DONE)
        finally:
            if journal is not None:
                journal.close()

    def _what_is_left(self, journal: Journal | None) -> str:
        if journal is None:
            return "nothing was kept, -o FILE would have"
        return f"finished rows are kept in {journal.path}: the same command with --resume goes on"

    def _write(self, write: Callable[[Path], None], journal: Journal | None) -> None:
        if self.target is None or journal is None:
            return
        try:
            write(self.target)
        except (ValueError, OSError) as error:
            fail(f"cannot write {self.target}: {error}; {self._what_is_left(journal)}", NOTHING_DONE)
        journal.remove()

    def _show(self, table: list[Row], columns: list[str]) -> None:
        """The table on standard output; where that is no terminal, only if it was not written elsewhere."""
        if sys.stdout.isatty():
            from mofgap.screening.terminal import MAX_ROWS, render

            render(Console(), table, self.window, self.top or MAX_ROWS)
        elif self.output is None:
            _print_lines("\t".join(columns), (tab_separated(row, len(columns)) for row in table))


def _read_once(name: str) -> bool:
    """Whether a name can be gone through once only, as a pipe such as ``@<(find ...)``, or at great cost."""
    is_pipe = name.startswith("@") and not Path(name[1:]).is_file() and not Path(name).exists()
    return name == "-" or is_pipe or name.lower().endswith(_IN_SEQUENCE)


def check_output(table: Path, target: Path) -> None:
    """Refuse a table of no format, and a file that cannot be written.

    Raises:
        typer.BadParameter: It is one of these.
    """
    try:
        format_of(table)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from error
    if not target.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}", param_hint="--output")
    if target.is_dir():
        raise typer.BadParameter(f"{target} is a folder; name a file", param_hint="--output")


def _digests(name: str | Path, beside: str | Path | None) -> dict[str, str]:
    """The models, for the header: a config holds the sha256 of every other file of its model."""
    from mofgap.gap.folder import CONFIG, find_model
    from mofgap.screening.shard import BESIDE_MODEL

    names = {"model_sha256": name, BESIDE_MODEL: beside}
    return {
        key: hashlib.sha256((find_model(each) / CONFIG).read_bytes()).hexdigest()
        for key, each in names.items()
        if each is not None
    }


def _journal_path(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial.jsonl")


def _standard_input() -> Iterator[str]:
    # Names of files are bytes; those that are no text must survive.
    with open(0, encoding="utf-8-sig", errors="surrogateescape", closefd=False) as lines:
        yield from lines


def _print_lines(header: str, lines: Iterable[str]) -> None:
    """Print to standard output in UTF-8, until its reader has seen enough."""
    output = sys.stdout.buffer
    try:
        output.write(f"{header}\n".encode())
        for line in lines:
            output.write(f"{line}\n".encode())
        output.flush()
    except OSError as error:
        # Python flushes once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            fail(f"cannot write to standard output: {error.strerror}", NOTHING_DONE)


def say_counts(rows: list[Row], of_what: str) -> None:
    """Say on standard error how it went, and what failed."""
    failed = [row for row in rows if row.status == "failed"]
    doubtful = sum(row.status == "warning" for row in rows)
    for row in failed[:N_FAILURES_SHOWN]:
        block = "" if Path(row.file).stem == row.structure_id else f" [{row.structure_id}]"
        typer.echo(f"failed: {row.file}{block}: {row.reason}", err=True)
    if len(failed) > N_FAILURES_SHOWN:
        typer.echo(f"failed: {len(failed) - N_FAILURES_SHOWN} more, see the table", err=True)
    n_ok = len(rows) - doubtful - len(failed)
    typer.echo(f"{n_ok} ok, {doubtful} with warnings, {len(failed)} failed: {of_what}", err=True)


def caveats(rows: list[Row], level_of_theory: str, novel: Novel) -> None:
    """Say on standard error what holds for the whole table."""
    n_novel = sum(map(is_novel, rows))
    if n_novel and novel == "drop":
        typer.echo(f"mofgap: {n_novel} novel structures were left out (--novelty drop)", err=True)
    if is_pbe(level_of_theory) and any(row.gap_ev is not None for row in rows):
        typer.echo(PBE_CAVEAT, err=True)


def exit_code(rows: list[Row]) -> int:
    """How the program ends; a shard without inputs was read."""
    n_failed = sum(row.status == "failed" for row in rows)
    if rows and n_failed == len(rows):
        return NOTHING_DONE
    return SOME_FAILED if n_failed else ALL_READ
