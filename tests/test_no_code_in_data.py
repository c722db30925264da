"""No file that somebody else may have made is read in a way that can run a command."""

from __future__ import annotations

import re
from pathlib import Path

import mofgap

UNSAFE = re.compile(
    r"weights_only\s*=\s*False|allow_pickle\s*=\s*True|read_pickle|\bpickle\."
    r"|import (?:pickle|joblib|dill|shelve)|load_from_checkpoint"
    r"|yaml\.load\(|YAML\(\)|typ=.unsafe|(?<![.\w])(?:eval|exec)\("
)
LOAD = re.compile(r"torch\.load\((?!.*weights_only=True)|\.fit\(.*ckpt_path(?!.*weights_only=True)")


def test_no_module_reads_pickles_or_runs_text() -> None:
    root = Path(mofgap.__file__).parent
    found = {
        path.relative_to(root).as_posix(): line.strip()
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(UNSAFE, line) or re.search(LOAD, line)
    }
    assert not found
