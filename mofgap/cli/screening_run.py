"""Checks, messages and exit code of ``mofgap screen``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console

from mofgap.cli.exits import (
    ALL_READ,
    INTERRUPTED,
    NOTHING_DONE,
    SOME_FAILED,
    WRONG_USAGE,
    cannot_write,
    fail,
    say,
    words_of,
)
from mofgap.cli.options import refuse_taken, refused
from mofgap.cli.progress import tracked
from mofgap.cli.tables import command_line, print_json, print_lines
from mofgap.counts import counted
from mofgap.crystals.reasons import NOWHERE
from mofgap.screening.journal import JournalError, journal_path
from mofgap.screening.levels import is_pbe, ranking_words
from mofgap.screening.origin import ATTRIBUTE, record
from mofgap.screening.outcome import Outcome
from mofgap.screening.rank import Duplicates, Novelty
from mofgap.screening.row import Row, named, named_cells, printable
from mofgap.screening.table import PAGE, format_of, rows_path, tab_separated, to_frame, write_table
from mofgap.shipped import shipped_digests
from mofgap.whole_file import check_writable

if TYPE_CHECKING:
    from mofgap.screening.journal import Journal
    from mofgap.screening.run import ScreeningRun
    from mofgap.screening.shard import Shard

PBE_CAVEAT = (
    "PBE gaps lie above or below measured ones: rank by them, and do not quote them as measured; HSE06 gaps "
    "(--level hse06) are 1.5 eV larger on average over QMOF"
)
_IN_SEQUENCE = (".gz", ".tgz", ".xz", ".txz", ".bz2", ".tbz2")


def checked_target(
    output: Path | None,
    shard: Shard | None,
    resume: bool,
    force: bool,
    check_complete: Callable[[Path], None] = lambda _: None,
) -> Path | None:
    """The file to write: the table, or its share.

    Args:
        output: The table.
        shard: The share; None for the whole.
        resume: Whether to go on with a stopped run.
        force: Whether to overwrite.
        check_complete: Refuses a complete share that is not what is asked for.

    Raises:
        typer.BadParameter: If the options contradict each other, the file cannot be written, or earlier
            results would be lost.
        typer.Exit: If ``resume`` finds a complete shard. The program then ends with exit code 0.
    """
    if shard is not None and output is None:
        raise typer.BadParameter("needs -o, the table to make a share of", param_hint="--shard")
    if resume and output is None:
        raise typer.BadParameter("needs -o, the output of the run to go on with", param_hint="--resume")
    if resume and force:
        raise typer.BadParameter("contradicts --force", param_hint="--resume")
    if output is None:
        return None
    target = output if shard is None else shard.path(output)
    check_output(output, target)
    if force:
        return target
    journal, rows = journal_path(target), rows_path(target)
    if journal.exists() and not resume:
        words = f"{journal} holds an unfinished run: --resume continues it, --force starts again"
    elif target.exists() and not journal.exists():
        if resume and shard is not None:  # a whole array of jobs is submitted again
            check_complete(target)
            say(f"{target} is complete")
            raise typer.Exit
        words = f"{target} exists{' and is complete' if resume else ''}; --force overwrites it"
        words += "" if resume else " (--resume continues an unfinished run)"
    elif target.suffix.lower() == PAGE and rows.exists() and not resume:
        words = f"{rows} exists, where all rows of a long table are written; --force overwrites it"
    else:
        return target
    raise typer.BadParameter(words, param_hint="--output")


def check_complete(run: ScreeningRun) -> None:
    """Refuse to take a complete share of another screening for that of this one.

    Raises:
        typer.Exit: If it is of another one, or cannot be read.
    """
    from mofgap.screening.shard import ShardError

    try:
        run.check_complete(_standard_input())
    except ShardError as error:
        fail(error, WRONG_USAGE)
    except (ValueError, OSError) as error:
        fail(error, NOTHING_DONE)


def execute(run: ScreeningRun, resume: bool, as_json: bool = False) -> NoReturn:
    """Screen, write and show the table, and end with an exit code.

    Raises:
        typer.Exit: If the coverage is accepted. The program then always ends with an exit code.
        typer.BadParameter: If the model was calibrated on too few structures for the coverage.
    """
    from mofgap.crystals.inputs import passed_over_words

    _check_model(run)
    started = time.perf_counter()
    inputs = _screen(run, resume)
    seconds = time.perf_counter() - started
    outcome = Outcome.of([row for rows in inputs for row in rows])
    if run.shard is None and outcome.nothing_done and run.target is not None:
        nothing_there = all(row.reason.startswith(NOWHERE) for rows in inputs for row in rows)
        if nothing_there or run.target.exists():
            _say_counts(outcome, "")
            run.remove_journal()
            if as_json:
                _show(run, inputs, as_json)
            what = f"{run.target} is {'kept as it was' if run.target.exists() else 'not written'}"
            fail(f"nothing could be predicted; {what}", NOTHING_DONE)
    try:
        run.write(inputs, partial(write_output, settings=run.config.table_settings), command_line())
    except (ValueError, OSError) as error:
        fail(f"{cannot_write(run.target or '', error)}; {_what_is_left(run)}", NOTHING_DONE)
    _show(run, inputs, as_json)
    rate = outcome.n_rows / max(seconds, 1e-9)
    if run.passed_over:
        say(passed_over_words(run.passed_over))
    config, behind = run.config, f" in {seconds:.1f} s ({rate:.1f}/s)"
    has_window, left = config.window is not None, (config.novelty, config.duplicates)
    conclude(outcome, *left, run.target, behind, run.shard, has_window=has_window, model=config.model)


def list_inputs(inputs: Sequence[str], output: Path | None, n_shards: int, force: bool) -> None:
    """List inputs once for the shards of a table, and say what to do next.

    Raises:
        typer.BadParameter: If no table is named, it cannot be written, or the listing exists and ``force`` is
            False.
        typer.Exit: If no structure is found, or the listing cannot be written.
    """
    from mofgap.crystals.inputs import PassedOver, expand_inputs, passed_over_words
    from mofgap.screening.listing import listing_path, write_listing

    if output is None:
        raise typer.BadParameter("needs -o, the table to make shards of", param_hint="--list")
    folder, passed_over = listing_path(output), PassedOver()
    check_output(output, output)
    refuse_taken([folder], force, param_hint="--list")
    try:
        n = write_listing(folder, expand_inputs(inputs, _standard_input(), passed_over), n_shards)
    except OSError as error:
        fail(cannot_write(folder, error), NOTHING_DONE)
    if passed_over:
        say(passed_over_words(passed_over))
    names = f"{shlex.quote(str(folder))} -o {shlex.quote(str(output))}"
    what_next = f"mofgap screen {names} --shard I/{n_shards}, with the settings of the screening"
    say(f"listed {counted(n, 'input')} in {folder}; next: {what_next}")


def say_written(
    target: Path,
    shard: Shard | None = None,
    *,
    has_window: bool = True,
    has_page: bool = False,
    model: str | None = None,
) -> None:
    """Say on standard error what was written, and what to do next; see `conclude`."""
    name = shlex.quote(f"./{target}" if str(target).startswith("-") else str(target))
    own = "" if model is None or model in shipped_digests() else f" --model {shlex.quote(model)}"
    select = f"mofgap select {name}{own}{'' if has_window else ' --goal explore'}"
    if shard is not None:
        what_next = "mofgap gather puts all shards together"
    elif target.suffix.lower() == PAGE:
        what_next = "open it in a browser; -o FILE.csv writes the table for mofgap select"
    else:
        page = "" if has_page else f"mofgap report {name} (a page), or "
        what_next = f"{page}{select} (what to compute)"
    say(f"wrote {target}; next: {what_next}")


def write_output(
    path: Path, rows: Iterable[Row], columns: Sequence[str], *, settings: Mapping[str, Any]
) -> None:
    """Write a table in the format of its extension, or the report where that is ``.html``.

    Args:
        path: The file.
        rows: In order.
        columns: See `column_names`.
        settings: What decides the numbers; a report reads structures again as they were read.

    Raises:
        ValueError: If the extension of ``path`` is unknown, or its format cannot hold so many rows.
        OSError: If the file ``path`` cannot be written.
    """
    if path.suffix.lower() != PAGE:
        write_table(path, rows, columns)
        return
    from mofgap.report.file import write_report

    frame = to_frame(list(rows), columns)
    frame.attrs[ATTRIBUTE] = record(command_line(), len(frame), settings)
    write_report(path, frame, command=command_line())


def _check_model(run: ScreeningRun) -> None:
    """Load the model, and warn if it is changed or not calibrated."""
    from mofgap.gap.novelty_warnings import NOT_CALIBRATED
    from mofgap.screening.run import ScreeningError

    try:
        predictor = run.predictor
    except ScreeningError as error:
        raise typer.BadParameter(str(error), param_hint="--coverage") from error
    except (ValueError, OSError) as error:
        fail(error, NOTHING_DONE)
    for each in predictor.levels:
        if each.about.is_changed:
            say(f"{each.about.name}: it is not the model that this mofgap ships; give yours another name")
        if each.calibration.is_raw:
            say(f"{each.about.name} {NOT_CALIBRATED}")


def _screen(run: ScreeningRun, resume: bool) -> list[tuple[Row, ...]]:
    """Screen with a progress bar; returns the rows of each input."""
    from mofgap.screening.run import ScreeningError
    from mofgap.screening.shard import ShardError

    def watch(stream: Iterator[tuple[Row, ...]], journal: Journal | None) -> Iterator[tuple[Row, ...]]:
        if resume and journal is not None:
            _say_what_was_done(journal)
        # What is read in sequence would have to be read twice to be counted.
        countable = not any(map(_read_once, run.inputs))
        return tracked(stream, run.n_inputs if countable else None, Console(stderr=True))

    try:
        return run.rows(resume, _standard_input(), watch)
    except JournalError as error:
        fail(error, WRONG_USAGE)
    except (ScreeningError, ShardError) as error:
        fail(error, NOTHING_DONE)
    except KeyboardInterrupt:
        fail(f"interrupted; {_what_is_left(run)}", INTERRUPTED)
    except BrokenProcessPool:
        what = "a worker process died, for want of memory or killed; try fewer --workers"
        fail(f"{what}; {_what_is_left(run)}", NOTHING_DONE)
    except OSError as error:
        fail(f"{words_of(error)}; {_what_is_left(run)}", NOTHING_DONE)


def _say_what_was_done(journal: Journal) -> None:
    say(f"{counted(len(journal.finished), 'input')} done before")
    if n := journal.n_damaged:
        say(f"damaged in {journal.path}: {counted(n, 'line')}; what is missing is computed again")
    if journal.begun:
        name = printable(journal.begun)
        what = "is tried in a separate process now, so that it cannot end this run"
        say(f"the last run ended while it computed {name}, which {what}")


def _what_is_left(run: ScreeningRun) -> str:
    if run.target is None:
        return "nothing was kept, -o FILE would have"
    return f"finished rows are kept in {journal_path(run.target)}: the same command with --resume continues"


def _show(run: ScreeningRun, inputs: list[tuple[Row, ...]], as_json: bool) -> None:
    """The table on standard output; where that is no terminal, only if it was not written elsewhere."""
    columns = run.config.columns
    if as_json:
        print_json([named_cells(row, columns) for row in run.table(inputs)])
    elif sys.stdout.isatty():
        from mofgap.screening.terminal import MAX_ROWS, render

        table = run.table(inputs)
        render(Console(), table, run.config.window, MAX_ROWS if run.config.top is None else len(table))
    elif run.target is None:
        lines = (tab_separated(row, len(columns)) for row in run.table(inputs))
        print_lines(chain(["\t".join(columns)], lines))


def _read_once(name: str) -> bool:
    """Whether an input can be read only once, such as the pipe ``@<(find ...)``, or slowly."""
    is_pipe = name.startswith("@") and not Path(name[1:]).is_file() and not Path(name).exists()
    return name == "-" or is_pipe or name.lower().endswith(_IN_SEQUENCE)


def check_output(table: Path, target: Path) -> None:
    """Refuse a table of unknown format, and a file that cannot be written.

    Raises:
        typer.BadParameter: If the extension of ``table`` is unknown, ``target`` is a folder, its parent
            folder does not exist, or no file can be written there.
    """
    with refused("--output"):
        format_of(table)
    if not target.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {target.parent}; make it first", param_hint="--output")
    if target.is_dir():
        raise typer.BadParameter(f"{target} is a folder; name a file", param_hint="--output")
    try:
        check_writable(target)
    except OSError as error:
        raise typer.BadParameter(cannot_write(target, error), param_hint="--output") from error


def _standard_input() -> Iterator[str]:
    # Names of files are bytes; those that are no text must survive.
    with open(0, encoding="utf-8-sig", errors="surrogateescape", closefd=False) as lines:
        yield from lines


def _say_counts(outcome: Outcome, behind: str) -> None:
    """Say on standard error how it went, and what failed."""
    for row in outcome.first_failed:
        typer.echo(f"failed: {named(row.file, row.structure_id)}: {row.reason}", err=True)
    if more := outcome.n_failed - len(outcome.first_failed):
        typer.echo(f"failed: {more} more, see the table", err=True)
    n_ok = outcome.n_rows - outcome.n_warned - outcome.n_failed
    states = f"{n_ok} ok, {outcome.n_warned} with warnings, {outcome.n_failed} failed"
    typer.echo(f"{states}: {counted(outcome.n_rows, 'structure')}{behind}", err=True)


def _caveats(outcome: Outcome, novelty: Novelty, duplicates: Duplicates) -> None:
    """Say on standard error what holds for the whole table."""
    if outcome.n_novel and novelty == "drop":
        say(f"novel structures left out: {outcome.n_novel} (--novelty drop)")
    if n_copies := outcome.n_copies:
        what = "share the rank of their first copy" if duplicates == "keep" else "are left out"
        say(f"duplicates that {what}: {n_copies} (--duplicates {duplicates})")
    for level, of_two in sorted(outcome.levels):
        if of_two or is_pbe(level):
            say(ranking_words(level) if of_two else PBE_CAVEAT)


def conclude(
    outcome: Outcome,
    novelty: Novelty,
    duplicates: Duplicates,
    target: Path | None,
    behind: str = "",
    shard: Shard | None = None,
    *,
    has_window: bool,
    has_page: bool = False,
    model: str | None = None,
) -> NoReturn:
    """Print the summary of a screening, and exit with its code; a shard without inputs counts as read.

    Args:
        outcome: The counts.
        novelty: What became of novel structures.
        duplicates: What became of duplicates.
        target: The file that was written, if one was.
        behind: Follows the number of structures.
        shard: The share that the file holds; None for the whole table. A share of failures alone is done.
        has_window: Whether there was a gap window.
        has_page: Whether a report of the table was written too.
        model: Name or folder of the model, or a word for it; the table has only its name.

    Raises:
        typer.Exit: Always.
    """
    _say_counts(outcome, behind)
    _caveats(outcome, novelty, duplicates)
    nothing_done = shard is None and outcome.nothing_done
    if target is not None and nothing_done:
        say(f"wrote {target}, with a reason for each")
    elif target is not None:
        say_written(target, shard, has_window=has_window, has_page=has_page, model=model)
    if nothing_done:
        raise typer.Exit(NOTHING_DONE)
    raise typer.Exit(SOME_FAILED if outcome.n_failed else ALL_READ)
