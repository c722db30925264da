from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mofgap.crystals.inputs import expand_inputs
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.journal import Journal, JournalError, journal_path
from mofgap.screening.listing import write_listing
from mofgap.screening.run import ScreeningRun
from mofgap.screening.shard import Shard, ShardError


def test_no_input_is_thought_to_have_ended_a_run_that_the_user_stopped(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> None:
    paths = write_cifs(tmp_path / "in", 2)
    config = ScreeningConfig(model=str(model_folder), workers=1)
    run = ScreeningRun(tuple(map(str, paths)), config, None, tmp_path / "t.csv")

    def stop(rows: Any, journal: Journal | None) -> Any:
        assert journal is not None
        yield next(rows)
        journal.begin(str(paths[1]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.rows(resume=False, watch=stop)

    def look(rows: Any, journal: Journal | None) -> Any:
        assert journal is not None and journal.begun == "" and list(journal.finished) == [str(paths[0])]
        return rows

    assert len(run.rows(resume=True, watch=look)) == 2


def test_the_kept_rows_belong_to_the_run_until_its_table_is_written(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> None:
    (path,), target = write_cifs(tmp_path / "in", 1), tmp_path / "t.csv"
    run = ScreeningRun((str(path),), ScreeningConfig(model=str(model_folder)), None, target)
    rows = run.rows(resume=False)
    with pytest.raises(JournalError, match="by another process"):
        Journal(journal_path(target), {}, resume=False)
    run.write(rows)
    assert target.exists() and not journal_path(target).exists()


@pytest.mark.parametrize("listed", [False, True])
def test_a_complete_share_of_another_screening_is_refused(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]], listed: bool
) -> None:
    folder, listing = tmp_path / "in", tmp_path / "t.csv.inputs"
    write_cifs(folder, 2)

    def run(**settings: Any) -> ScreeningRun:
        if listed:
            write_listing(listing, expand_inputs([str(folder)]), 1)
        config = ScreeningConfig(model=str(model_folder), workers=1, **settings)
        shard = Shard(1, 1)
        return ScreeningRun(
            (str(listing if listed else folder),), config, shard, shard.path(tmp_path / "t.csv")
        )

    first = run()
    first.write(first.rows(resume=False))
    run().check_complete()
    with pytest.raises(ShardError, match=r"\(seed 0 then, 1 now, top None then, 3 now\)"):
        run(seed=1, top=3).check_complete()
    (folder / "s0.cif").rename(folder / "s7.cif")
    with pytest.raises(ShardError, match=r"\(inputs: other names\)"):
        run().check_complete()
    write_cifs(folder, 2)
    with pytest.raises(ShardError, match=r"n_inputs 2 then, 3 now"):
        run().check_complete()
