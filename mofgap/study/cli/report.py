"""What ``mofgap report`` makes of a run folder."""

from __future__ import annotations

from pathlib import Path

from mofgap.cli.report import PageAndWords


def page_of_run(run: Path) -> PageAndWords:
    """The page of a comparison.

    Raises:
        ComparisonError: If ``run`` holds no finished comparison, or its comparison is damaged or has another
            version.
    """
    from mofgap.study.report.compared import read_compared
    from mofgap.study.report.page import comparison_page

    compared = read_compared(run)
    n_methods, n_splits = compared.best.method.nunique(), len(compared.summary["splits"])
    return comparison_page(compared), [f"{n_methods} methods, splits: {n_splits}"]
