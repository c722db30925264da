from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mofgap.screening.config import ScreeningConfig
from mofgap.screening.journal import Journal
from mofgap.screening.run import ScreeningRun


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
